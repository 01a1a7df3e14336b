// The charts, by Vega-Lite. A chart is a function of the shown rows that gives a title, data and a specification, or
// null where there is nothing to draw.
const MOST_LINES = 90;
const COSTS = {
  forward_flops: { title: "forward MFLOPs an image", value: (row) => row.forward_flops === null ? null : row.forward_flops / 1e6 },
  train_time: { title: "time of a training pass, baseline = 1", value: (row) => row.train_time_ratio[0] },
  parameters: { title: "parameters", value: (row) => row.parameters },
  memory: { title: "peak memory (MB)", value: (row) => row.peak_memory_bytes === null ? null : row.peak_memory_bytes / 1e6 },
};
const UNITS = { translate_x: "moved to the right (pixels)", translate_y: "moved down (pixels)", rotate: "turned (degrees)",
  scale: "enlarged (factor)", size: "resized to (pixels)" };
const KINDS = { train_accuracy: "training accuracy (%)", validation_accuracy: "validation accuracy (%)",
  less: "training accuracy, less the control's (points)" };

// Colour, shape and dashes of arms, the same in every chart; one legend for the three, or none.
function scales(arms, named) {
  const legend = named ? { orient: "bottom", columns: Math.max(1, Math.floor(width() / 190)), title: null, labelLimit: 170, symbolSize: 90 } : null;
  const channel = (range) => ({ field: "arm", type: "nominal", legend, scale: { domain: arms, range } });
  return { color: channel(arms.map(colourOf)), shape: channel(arms.map((arm) => DATA.pools[arm].shape)),
    strokeDash: channel(arms.map((arm) => DATA.pools[arm].dash.length ? DATA.pools[arm].dash : [1, 0])) };
}

const armsOf = (rows) => [...new Set(rows.map((row) => row.arm))];

const width = () => Math.max(240, Math.min(900, document.querySelector("main").clientWidth - 170));

// A span of numbers that is not made of noise alone: at least `least` of its middle to either side.
function span(values, least) {
  const low = Math.min(...values), high = Math.max(...values), middle = (low + high) / 2;
  const half = Math.max((high - low) * 0.58, Math.abs(middle) * least);
  return [middle - half, middle + half];
}

function forest(rows) {
  let shown = rows.filter((row) => row.difference && row.difference.low !== null);
  if (!shown.length) return null;
  const cut = shown.length > MOST_LINES;
  shown = shown.sort((a, b) => b.difference.mean - a.difference.mean).slice(0, MOST_LINES);
  const several = new Set(shown.map((row) => row.s)).size > 1;
  const taken = new Map();
  const nameOf = (row) => { // settings whose short texts are alike stay two rows
    const name = several ? `${row.arm} · ${shortest(row.s)}` : row.arm, times = (taken.get(name) || 0) + 1;
    taken.set(name, times);
    return times > 1 ? `${name} (${times})` : name;
  };
  const values = shown.map((row) => ({ arm: row.arm, name: nameOf(row), setting: DATA.settings[row.s].text,
    mean: 100 * row.difference.mean, low: 100 * row.difference.low, high: 100 * row.difference.high,
    verdict: row.difference.verdict, blocks: row.difference.blocks }));
  const { color, shape } = scales(armsOf(shown));
  const y = { field: "name", type: "nominal", sort: null, axis: { title: null, labelLimit: several ? 420 : 200, grid: true } };
  const tooltip = ["arm", "setting", "mean", "low", "high", "verdict", "blocks"].map((field) => ({ field, ...(typeof values[0][field] === "number" && field !== "blocks" ? { format: "+.2f" } : {}) }));
  return { title: `Difference to ${controlText(rows)}, points of test accuracy, 95 % intervals${cut ? ` (the first ${MOST_LINES})` : ""}`, values,
    spec: { width: several ? Math.max(200, width() - 280) : width(), height: { step: 22 }, layer: [
      { data: { values: [{ zero: 0 }] }, mark: { type: "rule", opacity: 0.5 }, encoding: { x: { field: "zero", type: "quantitative" } } },
      { mark: { type: "rule", strokeWidth: 2 }, encoding: { y, x: { field: "low", type: "quantitative", title: "points" }, x2: { field: "high" }, color, tooltip } },
      { mark: { type: "point", filled: true, size: 90, opacity: 1 }, encoding: { y, x: { field: "mean", type: "quantitative" }, color, shape, tooltip } }] } };
}

function controlText(rows) {
  const found = [...new Set(rows.map(controlOf).filter((one) => one !== null))];
  return found.length === 1 ? found[0] : "each setting's baseline";
}

// Accuracy against a cost; over several settings the difference to the control against the multiple of its cost.
function pareto(rows) {
  const cost = COSTS[STATE.cost] || COSTS.forward_flops, several = new Set(rows.map((row) => row.s)).size > 1;
  const controls = new Map(DATA.rows.filter((row) => row.arm === controlOf(row)).map((row) => [row.s, row]));
  const values = [];
  for (const row of rows) {
    const control = controls.get(row.s), own = cost.value(row);
    if (own === null || row.test_accuracy[0] === null) continue;
    const [mean, low, high] = several ? (row.difference ? [row.difference.mean, row.difference.low, row.difference.high] : row === control || row.arm === controlOf(row) ? [0, null, null] : [null]) : row.test_accuracy;
    const unit = several ? control && cost.value(control) : 1;
    if (mean === null || !unit) continue;
    values.push({ arm: row.arm, setting: DATA.settings[row.s].text, x: own / unit, y: 100 * mean,
      low: low === null ? 100 * mean : 100 * low, high: high === null ? 100 * mean : 100 * high });
  }
  if (!values.length) return null;
  if (!several) for (const one of values) one.front = !values.some((other) => other.x <= one.x && other.y >= one.y && (other.x < one.x || other.y > one.y));
  const few = values.length <= 16, { color, shape } = scales(armsOf(rows), !few);
  const x = { field: "x", type: "quantitative", title: several ? `${cost.title.split(",")[0]}, multiple of the control's` : cost.title,
    scale: { domain: span(values.map((one) => one.x), 0.05), zero: false } };
  const y = { field: "y", type: "quantitative", title: several ? "difference (points)" : "test accuracy (%)",
    scale: { domain: span(values.flatMap((one) => [one.low, one.high]), several ? 0 : 0.004), zero: false } };
  const tooltip = [{ field: "arm" }, { field: "setting" }, { field: "x", format: ".3~f" }, { field: "y", format: ".2f" }];
  const layer = [
    { mark: { type: "rule", opacity: 0.6 }, encoding: { x, y: { ...y, field: "low" }, y2: { field: "high" }, color } },
    { mark: { type: "point", filled: true, size: 100, opacity: 1 }, encoding: { x, y, color, shape, tooltip } }];
  if (!several) layer.unshift({ transform: [{ filter: "datum.front" }], mark: { type: "line", interpolate: "step-after", opacity: 0.5, strokeDash: [4, 3] }, encoding: { x, y, order: { field: "x" } } });
  if (few) layer.push({ mark: { type: "text", align: "left", dx: 8, dy: -7, fontSize: 12 }, encoding: { x, y, text: { field: "arm" }, color } });
  const uncounted = cost === COSTS.forward_flops ? armsOf(rows.filter((row) => cost.value(row) === null && row.test_accuracy[0] !== null)) : [];
  const without = uncounted.length ? `; not counted, so not drawn: ${uncounted.join(", ")}` : "";
  return { title: (several ? "Difference to the control against cost" : "Accuracy against cost; dashed: no other is both cheaper and better") + without, values,
    choose: { name: "cost", label: "cost", options: Object.entries(COSTS).filter(([, one]) => rows.some((row) => one.value(row) !== null)).map(([id, one]) => [id, one.title]) },
    spec: { width: width(), height: 380, layer } };
}

// A setting as charts have room for it: a long one is told by the end of its text, where settings differ.
function shortest(place) {
  const text = DATA.settings[place].text;
  return text.length <= 70 ? text : `${text.slice(0, 40)} … ${text.slice(-26)}`;
}

const oneSetting = (rows) => {
  const places = [...new Set(rows.map((row) => row.s))];
  return places.length === 1 ? places[0] : null;
};

function curves(rows) {
  const place = oneSetting(rows), own = place === null ? null : DATA.curves[place];
  if (!own) return null;
  const control = rows.length ? controlOf(rows[0]) : null, values = [];
  const kinds = Object.keys(KINDS).filter((kind) => kind === "less" ? own[control]?.train_accuracy : Object.values(own).some((one) => one[kind]));
  const kind = kinds.includes(STATE.curve) ? STATE.curve : kinds[0];
  for (const row of rows) {
    const one = own[row.arm], number = kind === "less" ? "train_accuracy" : kind;
    if (!one || !one[number]) continue;
    one.epoch.forEach((epoch, at) => {
      const other = kind === "less" ? own[control].train_accuracy[own[control].epoch.indexOf(epoch)] : 0;
      if (one[number][at] !== null && other !== undefined && other !== null) values.push({ arm: row.arm, epoch, y: 100 * (one[number][at] - other) });
    });
  }
  if (!values.length) return null;
  const { color, shape, strokeDash } = scales(armsOf(rows), true), epochs = [...new Set(values.map((one) => one.epoch))].sort((a, b) => a - b);
  const x = { field: "epoch", type: "quantitative", title: "epoch", axis: { format: "d", ...(epochs.length <= 12 ? { values: epochs } : {}) }, scale: { nice: false, zero: false } };
  const y = { field: "y", type: "quantitative", title: KINDS[kind], scale: { zero: false } };
  return { title: "Learning curves, means over seeds", values, choose: { name: "curve", label: "number", options: kinds.map((one) => [one, KINDS[one]]) },
    spec: { width: width(), height: 340, layer: [
      { mark: { type: "line", strokeWidth: 1.8 }, encoding: { x, y, color, strokeDash } },
      { mark: { type: "point", filled: true, size: 45, opacity: 1 }, encoding: { x, y, color, shape, tooltip: [{ field: "arm" }, { field: "epoch" }, { field: "y", format: ".2f" }] } }] } };
}

function transforms(rows) {
  const place = oneSetting(rows), own = place === null ? null : DATA.transforms[place];
  if (!own) return null;
  const words = Object.keys(UNITS).filter((word) => own[word]), word = words.includes(STATE.transform) ? STATE.transform : words[0];
  const values = [];
  for (const row of rows) for (const [kind, points] of Object.entries(own[word]?.[row.arm] || {})) {
    for (const [amount, value] of points) if (value !== null) values.push({ arm: row.arm, amount, kind: kind === "moved" ? "features moved (% of the distance of two images)" : "test accuracy (%)", y: 100 * value });
  }
  if (!values.length) return null;
  const { color, shape, strokeDash } = scales(armsOf(rows), true), kinds = [...new Set(values.map((one) => one.kind))].sort().reverse();
  const x = { field: "amount", type: "quantitative", title: UNITS[word], scale: { zero: false, ...(word === "scale" ? { type: "log", base: 2 } : {}) } };
  const panel = (kind) => ({ width: Math.min(430, width()), height: 300, transform: [{ filter: { field: "kind", equal: kind } }], layer: [
    { mark: { type: "line", strokeWidth: 1.8 }, encoding: { x, y: { field: "y", type: "quantitative", title: kind, scale: { zero: false } }, color, strokeDash } },
    { mark: { type: "point", filled: true, size: 45, opacity: 1 }, encoding: { x, y: { field: "y", type: "quantitative" }, color, shape, tooltip: [{ field: "arm" }, { field: "amount" }, { field: "y", format: ".2f" }] } }] });
  return { title: "Under transforms, means over seeds", values, choose: { name: "transform", label: "transform", options: words.map((one) => [one, UNITS[one]]) },
    spec: { [width() > 800 ? "hconcat" : "vconcat"]: kinds.map(panel), resolve: { scale: { color: "shared", shape: "shared", strokeDash: "shared" } } } };
}

const CHARTS = { forest, pareto, curves, transforms };

function themed() {
  const style = getComputedStyle(document.documentElement), ink = style.getPropertyValue("--ink").trim(), line = style.getPropertyValue("--line").trim();
  return { background: style.getPropertyValue("--ground").trim(), font: "system-ui, DejaVu Sans, sans-serif",
    axis: { labelColor: ink, titleColor: ink, gridColor: line, domainColor: line, tickColor: line, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" },
    legend: { labelColor: ink, titleColor: ink, labelFontSize: 12 }, text: { color: ink }, rule: { color: ink }, line: { color: ink }, view: { stroke: null } };
}

let drawing = 0;
async function drawCharts(rows) {
  const turn = ++drawing, list = document.getElementById("chart-list");
  for (const [name, make] of Object.entries(CHARTS)) {
    let figure = document.getElementById(`chart-${name}`);
    if (!figure) list.append(figure = element("figure", { id: `chart-${name}` }));
    const chart = make(rows);
    figure.hidden = !chart;
    if (!chart) { figure.replaceChildren(); continue; }
    const holder = element("div", { class: "chart", role: "img", "aria-label": chart.title });
    const spec = { config: themed(), data: { values: chart.values }, ...chart.spec };
    const built = await vegaEmbed(holder, spec, { renderer: "svg", actions: false, mode: "vega-lite", ast: false });
    if (turn !== drawing) return; // a newer view is being drawn
    const save = async () => download(`${name}.svg`, "image/svg+xml", await built.view.toSVG());
    const chosen = chart.choose && chart.choose.options.length > 1 && element("label", {}, `${chart.choose.label}: `, chooser(chart.choose.name, chart.choose.options));
    figure.replaceChildren(element("figcaption", {}, element("b", {}, chart.title), chosen || "", element("button", { type: "button", onclick: save }, "SVG")), holder);
  }
}
