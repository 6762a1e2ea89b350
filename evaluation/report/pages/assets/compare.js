"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const pairs = JSON.parse(document.getElementById("pairs").textContent);
  const table = document.getElementById("comparison");
  const baseline = document.querySelector(".baseline");

  // Differences from the chosen row, and the best of the rows shown.
  const format = (value, decimals) => {
    const text = Math.abs(value).toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
    return (value > 0 ? "+" : value < 0 ? "\u2212" : "") + text;
  };
  const update = () => {
    if (!table) return;
    const against = baseline.querySelector("select").value;
    for (const row of table.tBodies[0].rows) {
      const { metric, decimals, better } = row.dataset;
      const cells = all("td", row).filter((cell) => cell.dataset.value !== undefined);
      const anchor = cells.find((cell) => cell.dataset.quantizerColumn === against);
      for (const cell of cells) {
        const delta = cell.querySelector(".delta");
        const name = cell.dataset.quantizerColumn;
        const pair = pairs[`${metric}|${name}|${against}`];
        delta.className = "seeds delta";
        delta.textContent = "";
        delta.title = "";
        if (!anchor || cell === anchor) continue;
        const value = pair ? pair[0] : Number(cell.dataset.value) - Number(anchor.dataset.value);
        delta.textContent = format(value, Number(decimals));
        if (pair && pair[1] !== null) delta.title = `95%: ${format(pair[1], Number(decimals))} to ${format(pair[2], Number(decimals))}`;
        if (pair && pair[3] && better) delta.classList.add((better === "higher") === (value > 0) ? "up" : "down");
      }
      const seen = cells.filter((cell) => !cell.classList.contains("away") && cell.dataset.quantizerColumn !== "identity");
      const values = seen.map((cell) => Number(cell.dataset.value));
      const best = better === "higher" ? Math.max(...values) : Math.min(...values);
      for (const cell of cells) cell.classList.toggle("leading", Boolean(better) && values.filter((value) => value === best).length === 1 && seen.length > 1 && seen.includes(cell) && Number(cell.dataset.value) === best);
    }
  };
  if (baseline && table) {
    baseline.hidden = false;
    baseline.querySelector("select").addEventListener("change", update);
    document.addEventListener("picked", update);
    update();
  }

  // One picture of every row, at one place and one magnification.
  const lenses = document.querySelector(".lenses");
  if (!lenses) return;
  const count = Number(lenses.dataset.count);
  const parts = all(".lens div", lenses);
  const [which, zoom, errors] = ["which", "zoom", "errors"].map((id) => document.getElementById(id));
  let place = [0.5, 0.5];
  const draw = () => {
    const scale = Number(zoom.value);
    for (const part of parts) {
      const side = part.clientWidth;
      const left = Number(which.value) * side * scale + place[0] * side * (scale - 1);
      part.style.backgroundImage = `url("${errors.checked ? part.dataset.error : part.dataset.strip}")`;
      part.style.backgroundSize = `${count * side * scale}px ${side * scale}px`;
      part.style.backgroundPosition = `${-left}px ${-place[1] * side * (scale - 1)}px`;
    }
  };
  for (const control of [which, zoom, errors]) control.addEventListener("input", draw);
  for (const part of parts) part.addEventListener("pointermove", (event) => {
    const box = part.getBoundingClientRect();
    place = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    draw();
  });
  document.querySelector(".lens-control").hidden = false;
  addEventListener("resize", draw);
  draw();
})();
