"use strict";
// What all charts share: elements, colours, numbers. Texts of runs are set as text, never as markup.

const began = performance.now();
const root = document.documentElement;
const data = JSON.parse(document.getElementById("data").textContent);
const redraws = []; // called when the width or the theme changes

const put = (node, attributes, children) => {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
};
const el = (tag, attributes, ...children) => put(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  put(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const choice = (name, options, value, onChange) => {
  const select = el("select", { "aria-label": name, onchange: () => onChange(select.value) });
  for (const [key, text] of options) select.append(el("option", { value: key }, text));
  select.value = value;
  return el("label", {}, name, select);
};
const toggle = (name, isOn, onChange) => {
  const button = el("button", { type: "button", "aria-pressed": isOn }, name);
  button.addEventListener("click", () => {
    isOn = !isOn;
    button.setAttribute("aria-pressed", isOn);
    onChange(isOn);
  });
  return button;
};

const probe = document.body.appendChild(el("span", { hidden: "" }));
const ink = (name) => {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
};
const isDark = () => {
  const [r, g, b] = ink("paper").match(/[\d.]+/g).map(Number);
  return r + g + b < 384;
};
const VIRIDIS = ["440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725"].map((hex) =>
  [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)),
);
// Yellow is lost on white paper, violet on black.
const ramp = (share) => {
  const at = (isDark() ? 0.28 + 0.72 * share : 0.78 * share) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(at), VIRIDIS.length - 2);
  const mixed = VIRIDIS[low].map((value, i) => Math.round(value + (VIRIDIS[low + 1][i] - value) * (at - low)));
  return `rgb(${mixed.join(",")})`;
};
// Okabe & Ito 2008, without the yellow and the black.
const KINDS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9"];

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const short = (value, digits = 4) => {
  const size = Math.abs(value);
  if (size >= 1000) return compact.format(value);
  if (size && size < 1e-3) return value.toExponential(1).replace(".0e", "e");
  return String(Number(value.toPrecision(digits)));
};
// As many digits as tell the ticks of one axis apart.
const shorts = (values) => {
  const digits = [4, 5, 6, 7, 8].find((n) => new Set(values.map((value) => short(value, n))).size === values.length);
  return values.map((value) => [value, short(value, digits)]);
};
const clock = (seconds) =>
  seconds >= 7200 ? `${short(seconds / 3600)} h` : seconds >= 120 ? `${short(seconds / 60)} min` : `${short(seconds)} s`;
const shown = (value) => (typeof value === "number" ? short(value) : String(value));
const ticks = (low, high, count) => {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9 && found.length < 50; at += step) found.push(Number(at.toPrecision(12)));
  return found;
};
const logTicks = (low, high) => {
  const decades = Math.log10(high / low);
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
    for (const n of decades > 3 ? [1] : [1, 2, 5]) found.push(n * 10 ** power);
  const inside = found.filter((at) => at >= low * 0.999 && at <= high * 1.001);
  return inside.length > 1 ? inside : ticks(low, high, 4);
};
const scale = (low, high, from, to, isLog) => {
  const of = isLog ? Math.log : (value) => value;
  const start = of(low);
  const width = of(high) - start || 1;
  return (value) => from + ((of(value) - start) / width) * (to - from);
};
const levelsOf = (values) => {
  const once = [...new Map(values.map((value) => [JSON.stringify(value), value])).values()];
  return once.every((value) => typeof value === "number") ? once.sort((a, b) => a - b) : once.sort();
};
const sign = data.metric.lower_is_better ? 1 : -1;
const tip = (place) => {
  const box = place.appendChild(el("div", { class: "tip", hidden: "" }));
  return {
    hide: () => (box.hidden = true),
    show: (x, y, title, lines) => {
      box.replaceChildren(el("b", {}, title), ...lines.map((text) => el("div", {}, text)));
      box.hidden = false;
      const left = x + 14 + box.offsetWidth > place.clientWidth ? x - 14 - box.offsetWidth : x + 14;
      box.style.left = `${Math.max(left, 0)}px`;
      box.style.top = `${Math.max(y - box.offsetHeight - 8, 0)}px`;
    },
  };
};
