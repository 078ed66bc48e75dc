// The table of what was measured.

export function measuresTable(result, volume) {
  const parts = Object.entries(result.classes).map(([name, figures], index) => {
    const rows = [[amountName(volume), amount(figures, volume)]];
    rows.push([figures.components === 1 ? "Lesion" : "Lesions", String(figures.components)]);
    if (figures.components > 1) rows.push(["Largest", share(figures)]);
    if (volume.shape[0] > 1) rows.push(["Slices with it", `${figures.slices.length} of ${volume.shape[0]}`]);
    return block(name, result.colours[index % result.colours.length], rows);
  });
  const holder = document.createElement("div");
  holder.append(...parts);
  return holder;
}

function amountName(volume) {
  if (!volume.known) return "Pixels";
  return volume.shape[0] > 1 ? "Volume" : "Area";
}

function amount(figures, volume) {
  if (!volume.known) return figures.pixels.toLocaleString("en");
  if (volume.shape[0] > 1) return `${figures.ml.toFixed(2)} ml`;
  return `${figures.slices.reduce((sum, one) => sum + one.mm2, 0).toFixed(0)} mm²`;
}

function share(figures) {
  return `${Math.round((100 * figures.largest_component_pixels) / figures.pixels)} %`;
}

function block(name, colour, rows) {
  const table = document.createElement("table");
  const caption = table.createCaption();
  caption.className = "class";
  const swatch = document.createElement("span");
  swatch.className = "swatch";
  swatch.style.background = colour;
  caption.append(swatch, name);
  for (const [label, value] of rows) {
    const row = table.insertRow();
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = label;
    row.append(head);
    row.insertCell().textContent = value;
  }
  return table;
}
