// The tools above the table, the drawer with a row's cells, and what happens when something changes.
function chooser(name, options) {
  const change = (event) => { STATE[name] = event.target.value; update(); };
  const known = options.some(([value]) => value === String(STATE[name]));
  const choice = element("select", { name, onchange: change }, ...options.map(([value, text]) => element("option", { value, selected: value === String(STATE[name]) }, text)));
  if (!known && options.length) choice.selectedIndex = 0;
  return choice;
}

function drawTools() {
  const byText = DATA.settings.map((setting, place) => [String(place), setting.text]).sort((a, b) => a[1].localeCompare(b[1]));
  const arms = [...new Set(DATA.rows.map((row) => row.arm))].sort();
  const search = element("input", { type: "search", name: "q", value: STATE.q, placeholder: "max blur …", size: 14,
    oninput: (event) => { STATE.q = event.target.value; update(); } });
  const parts = [["search", search]];
  if (DATA.settings.length > 1) parts.push(["setting", chooser("setting", [[ALL, `all ${DATA.settings.length}`], ...byText])]);
  parts.push(["differences to", chooser("control", [[ALL, "the baseline"], ...arms.map((arm) => [arm, arm])])]);
  const filters = [];
  for (const name of Object.keys(FILTERS)) {
    const values = [...new Set(DATA.rows.map((row) => about(row, name)))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    if (values.length > 1) filters.push([name === "tuned" ? "recipe" : name, chooser(name, [[ALL, "all"], ...values.map((value) => [value, value])])]);
  }
  const boxes = COLUMNS.filter((column) => column.id !== "arm").map((column) => element("label", {}, element("input", { type: "checkbox", name: `column-${column.id}`,
    checked: !STATE.hide.includes(column.id), onchange: (event) => {
      STATE.hide = event.target.checked ? STATE.hide.filter((id) => id !== column.id) : [...STATE.hide, column.id];
      update();
    } }), column.title));
  const files = [["CSV", "csv", "text/csv", asCsv], ["JSON", "json", "application/json", asJson], ["LaTeX", "tex", "text/plain", asLatex]].map(([text, end, type, make]) =>
    element("button", { type: "button", onclick: () => download(`poolbench.${end}`, type, make(shownRows())) }, text));
  const reset = element("button", { type: "button", onclick: () => { Object.assign(STATE, DEFAULT, { hide: [...DEFAULT.hide], theme: STATE.theme }); drawTools(); update(); } }, "start again");
  const tools = document.getElementById("tools");
  const labelled = ([text, one]) => element("label", {}, text, one);
  const open = Object.keys(FILTERS).some((name) => STATE[name] !== ALL) || matchMedia("(min-width: 640px)").matches;
  tools.replaceChildren(...parts.map(labelled),
    filters.length ? element("details", { class: "filters", open }, element("summary", {}, "filters"), element("div", {}, ...filters.map(labelled))) : "",
    element("details", {}, element("summary", {}, "columns"), element("div", {}, ...boxes)), element("span", {}, ...files), reset);
  tools.onsubmit = (event) => event.preventDefault();
}

function listed(values) {
  return element("dl", {}, ...Object.entries(values).flatMap(([key, value]) => [element("dt", {}, key), element("dd", {}, value === null ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value))]));
}

function showDrawer() {
  const drawer = document.getElementById("drawer"), row = DATA.rows.find((one) => keyOf(one) === STATE.open);
  if (!row) { if (drawer.open) drawer.close(); return; }
  const pool = DATA.pools[row.arm], setting = DATA.settings[row.s], image = document.querySelector(`#pool-${CSS.escape(pool.name)} img`);
  const cells = row.cells.map((place) => DATA.cells[place]);
  const lines = cells.map((cell) => element("tr", {}, element("td", { class: "n" }, String(cell.seed)),
    element("td", { class: "n" }, percent(cell.test_accuracy)), element("td", { class: "n" }, percent(cell.train_accuracy)),
    element("td", {}, cell.state), element("td", {}, cell.finished ? cell.finished.slice(0, 10) : "–"), element("td", {}, cell.commit ? cell.commit.slice(0, 10) : "–"),
    element("td", {}, cell.e === undefined ? "–" : `${DATA.environments[cell.e].cpu || ""} ${DATA.environments[cell.e].capability || ""}, torch ${DATA.environments[cell.e].torch || "?"}`)));
  const heads = ["seed", "test %", "train %", "state", "finished", "commit", "where"].map((text) => element("th", {}, text));
  const places = [...new Set(cells.map((cell) => cell.e).filter((place) => place !== undefined))];
  drawer.replaceChildren(
    element("button", { type: "button", class: "close", onclick: () => drawer.close() }, "close"),
    element("h2", { id: "drawer-title" }, `${row.arm} in ${setting.text}`),
    element("p", {}, pool.line, pool.source ? element("small", {}, ` ${pool.family}. ${pool.source}.`) : ""),
    ...(image ? [element("img", { src: image.src, alt: image.alt, width: 220, height: 120 })] : []),
    element("div", { class: "scroll" }, element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...lines))),
    element("h3", {}, "Train and compare one of them again"),
    element("pre", {}, cells.map((cell) => cell.again).filter(Boolean).join("\n") || "–"),
    element("h3", {}, "What this row alone has"), listed(row.config),
    element("details", {}, element("summary", {}, "What all rows of this setting share"), listed(setting.config)),
    ...places.map((place) => element("details", {}, element("summary", {}, `Environment ${place + 1}`), listed(DATA.environments[place]))),
    ...cells.filter((cell) => cell.error).map((cell) => element("p", { class: "lower" }, `seed ${cell.seed}: ${cell.error}`)));
  if (!drawer.open) drawer.showModal();
}

function update() {
  writeAddress();
  const rows = shownRows();
  drawTable(rows);
  return drawCharts(rows);
}

function applyTheme() {
  if (STATE.theme) document.documentElement.dataset.theme = STATE.theme;
  else delete document.documentElement.dataset.theme;
}

// Static tables are sorted by a click on their heads.
function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, at) => {
    const button = element("button", { type: "button" }, head.textContent);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[at].textContent.replace("−", "-"), numeric = (text) => parseFloat(text.replace(/,/g, ""));
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const x = numeric(value(a)), y = numeric(value(b));
        return (Number.isNaN(x) || Number.isNaN(y) ? value(a).localeCompare(value(b)) : x - y) * (down ? -1 : 1);
      });
      table.tBodies[0].append(...rows);
    });
    head.replaceChildren(button);
  });
}

readAddress();
applyTheme();
drawTools();
document.querySelectorAll("table.sortable").forEach(makeSortable);
const headline = document.getElementById("only-headline");
if (headline) {
  const table = document.querySelector("table.claims");
  const minor = table.querySelector(".minor");
  headline.closest("p").hidden = !minor || !table.querySelector("tbody tr:not(.minor)");
  if (headline.closest("p").hidden) headline.checked = false;
  const apply = () => table.classList.toggle("headline-only", headline.checked);
  headline.addEventListener("change", apply);
  apply();
}
document.getElementById("theme").addEventListener("click", () => { STATE.theme = isDark() ? "light" : "dark"; applyTheme(); update(); });
document.getElementById("drawer").addEventListener("close", () => { STATE.open = ""; writeAddress(); });
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !/INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName)) {
    event.preventDefault();
    document.querySelector("#tools input[type=search]").focus();
  }
});
window.addEventListener("hashchange", () => { if (readAddress()) { applyTheme(); drawTools(); update(); showDrawer(); } });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", update);
let resized;
window.addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(() => drawCharts(shownRows()), 200); });
const kept = location.hash;
update().then(() => { document.documentElement.dataset.ready = "true"; });
if (kept && !STATE.open) { const target = kept.length > 1 && !kept.includes("=") && document.querySelector(kept); if (target) target.scrollIntoView(); }
showDrawer();
