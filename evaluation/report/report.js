"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Sorting: inside each group of rows, so that unequal codebook sizes never mix.
  const sortValue = (cell) => {
    const text = cell.dataset.value ?? cell.textContent;
    return text === "" ? null : isNaN(text) ? text : Number(text);
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  for (const table of all("table.data")) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      for (const body of table.tBodies) {
        const rows = all("tr:not(.group)", body).map((row) => [sortValue(row.cells[column]), row]);
        rows.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : (descending ? -1 : 1) * compare(a, b));
        body.append(...rows.map(([, row]) => row));
      }
    }));
  }

  // Choosing quantizers: rows, columns, marks, pictures and cards follow.
  const picker = document.querySelector("section.picker");
  const chips = all("[data-pick]");
  const shown = () => {
    const off = new Set(chips.filter((chip) => chip.getAttribute("aria-pressed") === "false").map((chip) => chip.dataset.pick));
    for (const part of all("[data-quantizer]")) part.classList.toggle("away", off.has(part.dataset.quantizer));
    for (const part of all("[data-quantizer-column]")) part.classList.toggle("away", off.has(part.dataset.quantizerColumn));
  };
  const press = (chip, on) => chip.setAttribute("aria-pressed", String(on));
  for (const chip of chips) chip.addEventListener("click", () => { press(chip, chip.getAttribute("aria-pressed") === "false"); shown(); });
  document.querySelector("[data-pick-all]").addEventListener("click", () => { chips.forEach((chip) => press(chip, true)); shown(); });
  document.querySelector("[data-pick-none]").addEventListener("click", () => { chips.forEach((chip) => press(chip, false)); shown(); });
  picker.hidden = chips.length < 2;

  const control = document.querySelector(".strips-control");
  if (control) {
    control.hidden = false;
    control.querySelector("input").addEventListener("change", (event) =>
      document.querySelector(".strips").classList.toggle("errors", event.target.checked));
  }

  // Press and hold: the original in a reconstruction's place.
  const original = document.querySelector(".strip:not([data-quantizer]) .picture");
  if (original) for (const picture of all(".strip[data-quantizer] .picture")) {
    const own = picture.src;
    picture.draggable = false;
    picture.addEventListener("pointerdown", () => { picture.src = original.src; });
    for (const end of ["pointerup", "pointerleave", "pointercancel"]) picture.addEventListener(end, () => { picture.src = own; });
    picture.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  // Provenance: the number's records in a dialog; without a dialog the link leads to the section below.
  const dialog = document.getElementById("source");
  const open = (target) => { for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true; };
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.num");
    if (!link || !dialog.showModal || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const body = dialog.querySelector(".body");
    body.replaceChildren();
    for (const id of link.dataset.records.split(" ")) {
      const record = document.getElementById(id);
      const title = document.createElement("h3");
      title.textContent = record.dataset.title;
      const copy = record.cloneNode(true);
      copy.querySelector("summary").remove();
      for (const row of all("tr[data-metric]", copy)) row.classList.toggle("asked", row.dataset.metric === link.dataset.metric);
      const part = document.createElement("div");
      part.append(...copy.childNodes);
      body.append(title, part);
    }
    dialog.showModal();
    dialog.scrollTop = 0;
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  const follow = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target) { open(target); target.scrollIntoView(); }
  };
  addEventListener("hashchange", follow);
  follow();

  // The current section in the navigation.
  const links = new Map(all("nav a").map((link) => [link.getAttribute("href").slice(1), link]));
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      links.forEach((link) => link.removeAttribute("aria-current"));
      links.get(entry.target.id).setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  for (const id of links.keys()) observer.observe(document.getElementById(id));

  // Printing shows what is folded, except the raw records.
  addEventListener("beforeprint", () => all("details.unmeasured").forEach((part) => { part.open = true; }));
})();
