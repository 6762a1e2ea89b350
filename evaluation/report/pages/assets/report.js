"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Sorting: inside each group of rows, so that unequal codebook sizes never mix.
  const sortValue = (cell) => {
    const text = cell.dataset.value ?? cell.textContent.trim();
    return text === "" ? null : isNaN(text) ? text : Number(text);
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  for (const table of all("table.data")) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
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

  // Filtering: rows that hold every word, with or without thousands separators; a group without rows goes too.
  const plain = (text) => text.toLowerCase().replace(/(\d),(?=\d{3})/g, "$1");
  for (const box of all(".filter")) {
    const table = box.parentElement.querySelector("table.data");
    if (!table || table.rows.length < 12) continue;
    box.hidden = false;
    box.querySelector("input").addEventListener("input", (event) => {
      const words = plain(event.target.value).split(/\s+/).filter(Boolean);
      for (const body of table.tBodies) {
        const rows = all("tr:not(.group)", body);
        for (const row of rows) row.hidden = !words.every((word) => plain(row.textContent).includes(word));
        for (const group of all("tr.group", body)) group.hidden = rows.every((row) => row.hidden);
      }
    });
  }

  // Choosing quantizers: rows, columns, marks and pictures follow; the address remembers.
  const picker = document.querySelector("section.picker");
  const chips = all("[data-pick]");
  const off = (chip) => chip.getAttribute("aria-pressed") === "false";
  const press = (chip, on) => chip.setAttribute("aria-pressed", String(on));
  const shown = () => {
    const hidden = new Set(chips.filter(off).map((chip) => chip.dataset.pick));
    for (const part of all("[data-quantizer]")) part.classList.toggle("away", hidden.has(part.dataset.quantizer));
    for (const part of all("[data-quantizer-column]")) part.classList.toggle("away", hidden.has(part.dataset.quantizerColumn));
    document.dispatchEvent(new CustomEvent("picked"));
  };
  const remember = () => {
    shown();
    const picked = chips.filter((chip) => !off(chip)).map((chip) => chip.dataset.pick);
    const query = picked.length === chips.length ? "" : `?show=${picked.join(",")}`;
    try { history.replaceState(null, "", location.pathname + query + location.hash); } catch { /* a browser may refuse it for files */ }
  };
  for (const chip of chips) chip.addEventListener("click", () => { press(chip, off(chip)); remember(); });
  document.querySelector("[data-pick-all]")?.addEventListener("click", () => { chips.forEach((chip) => press(chip, true)); remember(); });
  document.querySelector("[data-pick-none]")?.addEventListener("click", () => { chips.forEach((chip) => press(chip, false)); remember(); });
  if (picker) picker.hidden = chips.length < 2;
  const asked = new URLSearchParams(location.search).get("show");
  if (asked !== null) {
    const names = new Set(asked.split(","));
    chips.forEach((chip) => press(chip, names.has(chip.dataset.pick)));
    shown();
  }

  // One quantizer stands out of a figure.
  for (const figure of all("[data-focus]"))
    for (const part of all("[data-quantizer]", figure)) part.classList.toggle("focused", part.dataset.quantizer === figure.dataset.focus);

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

  // Printing shows what is folded, except the raw records.
  addEventListener("beforeprint", () => all("details.unmeasured").forEach((part) => { part.open = true; }));
})();
