// The table: sorted, filtered, with intervals drawn in it.
const COLUMNS = [
  { id: "arm", title: DATA.factor, value: (row) => row.arm, cell: armCell },
  { id: "setting", title: "setting", value: (row) => DATA.settings[row.s].text, kind: () => "setting", tip: true },
  { id: "accuracy", title: "accuracy %", numeric: true, value: (row) => row.test_accuracy[0],
    text: (row) => withMargin(percent(row.test_accuracy[0]), row.test_accuracy[1], row.test_accuracy[2]) },
  { id: "interval", title: "95 % interval", bar: (row) => row.test_accuracy, wide: true },
  { id: "difference", title: "difference", numeric: true, value: (row) => row.difference && row.difference.mean,
    text: (row) => row.difference ? withMargin(signed(row.difference.mean), row.difference.low, row.difference.high)
      : controlOf(row) === row.arm ? "control" : "–" },
  { id: "drawn", title: "difference, 95 % interval", zero: true, wide: true,
    bar: (row) => row.difference ? [row.difference.mean, row.difference.low, row.difference.high] : [null, null, null] },
  { id: "verdict", title: "verdict", value: (row) => row.difference ? row.difference.verdict : "",
    kind: (row) => row.difference ? row.difference.verdict.replace(" ", "-") : "" },
  { id: "best", title: "best?", value: (row) => row.best === null ? "–" : row.best ? "maybe" : "no",
    kind: (row) => row.best ? "best" : "" },
  { id: "seeds", title: "seeds", numeric: true, value: (row) => row.seeds, digits: 0 },
  { id: "train_time", title: "train time ×", numeric: true, value: (row) => row.train_time_ratio[0], digits: 2,
    text: (row) => spread(row.train_time_ratio) },
  { id: "forward_time", title: "forward time ×", numeric: true, value: (row) => row.forward_time_ratio[0], wide: true,
    text: (row) => spread(row.forward_time_ratio) },
  { id: "flops", title: "MFLOPs", numeric: true, value: (row) => row.forward_flops,
    text: (row) => row.forward_flops === null ? "not counted" : number(row.forward_flops / 1e6, 1) },
  { id: "parameters", title: "parameters", numeric: true, value: (row) => row.parameters, digits: 0, wide: true },
  { id: "memory", title: "peak memory MB", numeric: true, value: (row) => row.peak_memory_bytes, wide: true,
    text: (row) => row.peak_memory_bytes === null ? "–" : number(row.peak_memory_bytes / 1e6, 0) },
  { id: "gap", title: "train-test gap", numeric: true, value: (row) => row.train_test_gap[0], wide: true,
    text: (row) => percent(row.train_test_gap[0]) },
  { id: "loss", title: "test loss", numeric: true, value: (row) => row.test_loss[0], digits: 4, wide: true },
  { id: "consistency", title: "consistency %", numeric: true, value: (row) => row.consistency, wide: true,
    text: (row) => percent(row.consistency) },
  { id: "corrupted", title: "corrupted %", numeric: true, value: (row) => row.test_accuracy_corrupted, wide: true,
    text: (row) => percent(row.test_accuracy_corrupted) },
];

const spread = ([middle, low, high]) => middle === null ? "–"
  : low === null || low === high ? number(middle, 2) : `${number(middle, 2)} [${number(low, 2)}, ${number(high, 2)}]`;

const BY_ID = Object.fromEntries(COLUMNS.map((column) => [column.id, column]));

function textOf(column, row) {
  if (column.text) return column.text(row);
  const value = column.value(row);
  return column.numeric ? number(value, column.digits || 0) : value;
}

// Columns that have something to say of these rows, and are not hidden.
function columnsOf(rows, hidden = STATE.hide) {
  const settings = new Set(rows.map((row) => row.s));
  return COLUMNS.filter((column) => {
    if (hidden.includes(column.id)) return false;
    if (column.id === "setting") return settings.size > 1;
    if (column.bar) return rows.some((row) => column.bar(row)[1] !== null);
    return !column.numeric || rows.some((row) => column.value(row) !== null && column.value(row) !== undefined);
  });
}

function sorted(rows) {
  const column = BY_ID[STATE.sort] || BY_ID.accuracy, way = STATE.down ? -1 : 1;
  const value = (row) => column.value ? column.value(row) : column.bar(row)[0];
  const absent = (one) => one === null || one === undefined || one === "";
  return [...rows].sort((a, b) => {
    const x = value(a), y = value(b);
    if (absent(x) || absent(y)) return absent(x) - absent(y) || a.arm.localeCompare(b.arm);
    return way * (typeof x === "number" ? x - y : String(x).localeCompare(String(y))) || a.arm.localeCompare(b.arm);
  });
}

function symbol(arm) {
  const path = { circle: "M0,-.9A.9,.9,0,1,1,0,.9A.9,.9,0,1,1,0,-.9Z", square: "M-.8,-.8H.8V.8H-.8Z",
    "triangle-up": "M0,-1L.95,.8H-.95Z", "triangle-down": "M0,1L.95,-.8H-.95Z", "triangle-left": "M-1,0L.8,.95V-.95Z",
    "triangle-right": "M1,0L-.8,.95V-.95Z", diamond: "M0,-1L1,0L0,1L-1,0Z",
    cross: "M-.35,-1H.35V-.35H1V.35H.35V1H-.35V.35H-1V-.35H-.35Z" }[DATA.pools[arm].shape] || DATA.pools[arm].shape;
  return picture(14, 14, `<path transform="translate(7,7) scale(5.5)" d="${path}" fill="${colourOf(arm)}"/>`);
}

function picture(width, height, inside) {
  const holder = document.createElement("span");
  holder.innerHTML = `<svg width="${width}" height="${height}" aria-hidden="true">${inside}</svg>`;
  return holder.firstChild;
}

function armCell(row) {
  const open = () => { STATE.open = keyOf(row); writeAddress(); showDrawer(); };
  const button = element("button", { type: "button", class: "arm", title: "its cells", onclick: open }, symbol(row.arm), row.arm);
  return element("th", { scope: "row" }, button);
}

const keyOf = (row) => `${DATA.settings[row.s].id}:${row.arm}`;

function barCell(column, row, span) {
  const [middle, low, high] = column.bar(row), width = 150, at = (value) => 5 + (width - 10) * (value - span[0]) / (span[1] - span[0]);
  let inside = column.zero ? `<line x1="${at(0)}" x2="${at(0)}" y1="0" y2="16" stroke="currentColor" opacity=".35"/>` : "";
  if (middle !== null) {
    if (low !== null) inside += `<line x1="${at(low)}" x2="${at(high)}" y1="8" y2="8" stroke="${colourOf(row.arm)}" stroke-width="2"/>`;
    inside += `<circle cx="${at(middle)}" cy="8" r="4" fill="${colourOf(row.arm)}"/>`;
  }
  return element("td", { class: column.wide ? "wide" : "" }, picture(width, 16, inside));
}

function spanOf(column, rows) {
  const values = rows.flatMap((row) => column.bar(row)).filter((value) => value !== null).concat(column.zero ? [0] : []);
  const low = Math.min(...values), high = Math.max(...values);
  return high > low ? [low, high] : [low - 0.01, high + 0.01];
}

function drawTable(rows) {
  const columns = columnsOf(rows), spans = {}, settings = new Set(rows.map((row) => row.s));
  for (const column of columns) if (column.bar) spans[column.id] = spanOf(column, rows);
  const head = element("tr", {}, ...columns.map((column) => {
    const way = STATE.sort === column.id ? (STATE.down ? "descending" : "ascending") : null;
    const classes = [column.numeric ? "n" : "", column.wide ? "wide" : ""].join(" ").trim();
    if (column.bar) return element("th", { class: classes, scope: "col" }, column.title);
    return element("th", { class: classes, scope: "col", "aria-sort": way },
      element("button", { type: "button", "data-sort": column.id, onclick: () => sortBy(column) }, column.title));
  }));
  const body = sorted(rows).map((row) => {
    const classes = [row.base ? "base" : "", settings.size === 1 && controlOf(row) === row.arm ? "control" : ""].join(" ").trim();
    return element("tr", { class: classes, "data-arm": row.arm }, ...columns.map((column) => {
      if (column.cell) return column.cell(row);
      if (column.bar) return barCell(column, row, spans[column.id]);
      const kind = [column.numeric ? "n" : "", column.wide ? "wide" : "", column.kind ? column.kind(row) : ""].join(" ").trim();
      return element("td", { class: kind, title: column.tip ? column.value(row) : null }, textOf(column, row));
    }));
  });
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  const focused = document.activeElement && document.activeElement.dataset.sort;
  document.getElementById("live-table").replaceChildren(table);
  if (focused) table.querySelector(`[data-sort="${focused}"]`)?.focus();
  document.getElementById("count").textContent = rows.length
    ? `${rows.length} ${rows.length === 1 ? "row" : "rows"} of ${DATA.rows.length}, ${settings.size} ${settings.size === 1 ? "setting" : "settings"}`
    : "Nothing passes these filters.";
  const notes = settings.size === 1 ? DATA.settings[[...settings][0]].notes : [];
  document.getElementById("notes").replaceChildren(...notes.map((note) => element("li", {}, note)));
}

function sortBy(column) {
  if (STATE.sort === column.id) STATE.down = !STATE.down;
  else [STATE.sort, STATE.down] = [column.id, Boolean(column.numeric)];
  update();
}

// The view as a file. Texts are those of the table; CSV and JSON have every digit of the numbers behind them.
function asCsv(rows) {
  const columns = columnsOf(rows).filter((column) => !column.bar);
  const quoted = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    const harmless = typeof value === "string" && /^[=+\-@]/.test(text) ? `'${text}` : text;
    return /[",\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
  };
  const lines = [[...columns.map((column) => column.id), "accuracy_low", "accuracy_high", "difference_low", "difference_high"]];
  for (const row of sorted(rows)) {
    lines.push([...columns.map((column) => column.value(row)), row.test_accuracy[1], row.test_accuracy[2],
      row.difference && row.difference.low, row.difference && row.difference.high]);
  }
  return lines.map((line) => line.map(quoted).join(",")).join("\n") + "\n";
}

function asJson(rows) {
  const told = sorted(rows).map((row) => {
    const { s, cells, config, ...own } = row;
    return { setting: DATA.settings[s].text, control: controlOf(row), ...own, config: { ...DATA.settings[s].config, ...config },
      cells: cells.map((place) => DATA.cells[place].run) };
  });
  return JSON.stringify(told, null, 1) + "\n";
}

function asLatex(rows) {
  const columns = columnsOf(rows).filter((column) => !column.bar);
  const special = { "&": "\\&", "%": "\\%", _: "\\_", "#": "\\#", $: "\\$", "{": "\\{", "}": "\\}", "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}", "\\": "\\textbackslash{}", "±": "$\\pm$", "−": "$-$", "×": "$\\times$", "–": "--" };
  const escaped = (text) => String(text).replace(/[&%_#${}~^\\±−×–]/g, (letter) => special[letter]);
  const lines = [`\\begin{tabular}{${columns.map((column) => column.numeric ? "r" : "l").join("")}}`, "\\toprule",
    `${columns.map((column) => escaped(column.title)).join(" & ")} \\\\`, "\\midrule"];
  for (const row of sorted(rows)) lines.push(`${columns.map((column) => escaped(textOf(column, row))).join(" & ")} \\\\`);
  return [...lines, "\\bottomrule", "\\end{tabular}", ""].join("\n");
}
