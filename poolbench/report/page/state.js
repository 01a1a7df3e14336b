"use strict";
// The data of the page, and the state of the view, which stands in the address.
const DATA = JSON.parse(document.getElementById("data").textContent);
const ALL = "";
const FILTERS = { family: "family", model: "model", head: "head", data: "data", epochs: "epochs", tuned: "tuned" };
const STATE = { setting: String(DATA.start), control: ALL, q: "", sort: "accuracy", down: true, cost: "forward_flops",
  curve: "train_accuracy", transform: "", open: "", hide: ["forward_time", "loss", "memory"], theme: "" };
for (const name of Object.keys(FILTERS)) STATE[name] = ALL;
const DEFAULT = { ...STATE, hide: [...STATE.hide] };

function readAddress() {
  const said = new URLSearchParams(location.hash.replace(/^#/, ""));
  if (location.hash && ![...said.keys()].some((key) => key in DEFAULT)) return false; // a link to a part of the page
  for (const [key, value] of Object.entries(DEFAULT)) {
    const text = said.get(key);
    if (key === "hide") STATE.hide = text === null ? [...value] : text.split(",").filter(Boolean);
    else if (key === "down") STATE.down = text === null ? value : text === "true";
    else STATE[key] = text === null ? value : text;
  }
  if (STATE.setting !== ALL && !DATA.settings[STATE.setting]) STATE.setting = DEFAULT.setting;
  return true;
}

function address() {
  const said = new URLSearchParams();
  for (const [key, value] of Object.entries(DEFAULT)) {
    if (String(STATE[key]) !== String(value)) said.set(key, String(STATE[key])); // lists are joined by commas
  }
  return said.toString();
}

function writeAddress() {
  const text = address();
  history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
}

function about(row, name) {
  if (name === "family") return DATA.pools[row.arm].family;
  const value = DATA.settings[row.s][name];
  return name === "tuned" ? (value ? "tuned" : "same recipe") : String(value);
}

// The rows that pass the filters, each with its difference to the control.
function shownRows() {
  const words = STATE.q.toLowerCase().split(/\s+/).filter(Boolean);
  return DATA.rows.filter((row) => {
    if (STATE.setting !== ALL && row.s !== Number(STATE.setting)) return false;
    if (Object.keys(FILTERS).some((name) => STATE[name] !== ALL && about(row, name) !== STATE[name])) return false;
    const text = `${row.arm} ${DATA.settings[row.s].text} ${DATA.pools[row.arm].family}`.toLowerCase();
    return words.every((word) => text.includes(word));
  }).map((row) => ({ ...row, difference: difference(row) }));
}

function controlOf(row) {
  return STATE.control === ALL ? DATA.settings[row.s].baseline : STATE.control;
}

// Mean, bounds, verdict and blocks against the control; null where the two never met.
function difference(row) {
  const pairs = DATA.pairs[row.s], control = controlOf(row);
  if (!pairs || control === null || control === row.arm) return null;
  const own = pairs.arms.indexOf(row.arm), other = pairs.arms.indexOf(control);
  if (own < 0 || other < 0 || pairs.mean[own][other] === null) return null;
  const mean = pairs.mean[own][other] / 1e5, half = pairs.half[own][other];
  const blocks = pairs.blocks[own][other], letter = pairs.verdict[own][other];
  return { mean, low: half === null ? null : mean - half / 1e5, high: half === null ? null : mean + half / 1e5, blocks,
    verdict: { "-": "cannot tell", h: "higher", l: "lower" }[letter] };
}

const number = (value, digits) => value === null || value === undefined ? "–" : value.toLocaleString("en-US",
  { minimumFractionDigits: digits, maximumFractionDigits: digits });
const percent = (value, digits = 2) => value === null || value === undefined ? "–" : number(100 * value, digits);
const signed = (value, digits = 2) => value === null ? "–" : (value < 0 ? "−" : "+") + number(Math.abs(100 * value), digits);
const halfOf = (low, high) => number(Math.ceil(5000 * (high - low) - 1e-6) / 100, 2);

const withMargin = (text, low, high) => low === null ? text : `${text} ± ${halfOf(low, high)}`;

function element(name, attributes = {}, ...children) {
  const one = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) one.addEventListener(key.slice(2), value);
    else if (value === true) one.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) one.setAttribute(key, value);
  }
  one.append(...children.filter((child) => child !== null && child !== undefined));
  return one;
}

function download(name, type, text) {
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
}

const isDark = () => STATE.theme ? STATE.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;

// A pool's colour on the ground of the page: dark ones are lightened where the ground is dark.
function colourOf(arm) {
  const colour = DATA.pools[arm].colour;
  if (!isDark()) return colour;
  const parts = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const light = 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  const share = light < 110 ? (light < 20 ? 0.92 : 0.5) : 0;
  return "#" + parts.map((part) => Math.round(part + (255 - part) * share).toString(16).padStart(2, "0")).join("");
}
