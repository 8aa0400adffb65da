"use strict";
// Curves, best learning rates, parallel coordinates and pairs of runs. Texts of runs are set as text, never as markup.
(() => {
  const began = performance.now();
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("data").textContent);
  const redraws = []; // called when the width or the theme changes

  // Elements -----------------------------------------------------------------------------------------
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

  // Colours ------------------------------------------------------------------------------------------
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

  // Numbers ------------------------------------------------------------------------------------------
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

  // Curves -------------------------------------------------------------------------------------------
  const nameOf = (run) => `${run.label} seed=${run.seed}`;
  const drawn = data.runs.filter((run) => Object.keys(run.curves).length);
  const keyNames = Object.fromEntries(data.keys.map((key) => [key, data.names[key]]));

  function levelling(key) {
    // The level of a run, and the colour of each level.
    const of = key === "point" ? (run) => run.label : (run) => run.config[key] ?? null;
    const levels = levelsOf(drawn.map(of));
    const ordered = levels.every((value) => typeof value === "number") || levels.length > KINDS.length;
    const index = new Map(levels.map((value, at) => [JSON.stringify(value), at]));
    return {
      levels,
      at: (run) => index.get(JSON.stringify(of(run))),
      colour: (at) => (ordered ? ramp(levels.length > 1 ? at / (levels.length - 1) : 0.5) : KINDS[at % KINDS.length]),
    };
  }

  function curvesSection() {
    const section = document.getElementById("curves");
    const series = Object.keys(data.series);
    if (!drawn.length || !series.length) return section.append(el("p", { class: "faint" }, "No run has logged a curve."));
    const few = new Set(drawn.map((run) => run.label)).size <= 8;
    const state = { x: "loss_tokens", y: series[0], log: false, smooth: false, by: few || !data.keys.length ? "point" : data.lead || data.keys[0] };
    const hidden = new Set(); // runs
    let by = levelling(state.by);
    let lines = [];
    let view = null;

    const plot = el("div", { class: "plot" });
    const base = plot.appendChild(el("canvas", { role: "img", "aria-label": "curves of all runs" }));
    const over = plot.appendChild(el("canvas", {}));
    const bubble = tip(plot);
    const legend = el("div", { class: "chips", id: "levels" });
    const each = el("div", { class: "chips", id: "each" });

    function prepare() {
      lines = [];
      for (const run of drawn) {
        if (hidden.has(run)) continue;
        const xs = run.curves[state.x] || [];
        const ys = run.curves[state.y] || [];
        const line = { run, x: [], y: [] };
        let smooth = null;
        ys.forEach((value, at) => {
          if (value === null || xs[at] === null || xs[at] === undefined || (state.log && value <= 0)) return;
          smooth = smooth === null || !state.smooth ? value : 0.9 * smooth + 0.1 * value;
          line.x.push(xs[at]);
          line.y.push(smooth);
        });
        if (line.x.length) lines.push(line);
      }
    }

    function sized(canvas) {
      const density = window.devicePixelRatio || 1;
      canvas.width = plot.clientWidth * density;
      canvas.height = plot.clientHeight * density;
      const pen = canvas.getContext("2d", { willReadFrequently: true });
      pen.setTransform(density, 0, 0, density, 0, 0);
      pen.font = "12px system-ui, sans-serif";
      return pen;
    }

    let overPen = null;
    const wipe = () => {
      overPen.clearRect(0, 0, plot.clientWidth, plot.clientHeight);
      bubble.hide();
    };

    function draw() {
      prepare();
      const pen = sized(base);
      overPen = sized(over);
      bubble.hide();
      const width = plot.clientWidth;
      const height = plot.clientHeight;
      const extent = (axis) => {
        let low = Infinity;
        let high = -Infinity;
        for (const line of lines) for (const value of line[axis]) {
          if (value < low) low = value;
          if (value > high) high = value;
        }
        return [low, high];
      };
      if (!lines.length) {
        view = null;
        pen.fillStyle = ink("faint");
        return pen.fillText("Nothing is chosen that has this curve.", 16, 30);
      }
      const [x0, x1] = extent("x");
      let [y0, y1] = extent("y");
      const gap = 0.04 * (y1 - y0) || Math.abs(y1) / 20 || 1;
      if (!state.log) [y0, y1] = [y0 - gap, y1 + gap];
      const names = by.levels.map(shown);
      const labelled = width > 640 && names.length > 1 && names.length <= 8 && names.every((name) => name.length < 32);
      pen.font = "600 12px system-ui, sans-serif";
      const room = labelled ? Math.min(Math.max(...names.map((text) => pen.measureText(text).width)) + 14, 220) : 10;
      const box = { left: 52, right: width - room, top: 26, bottom: height - 40 };
      const X = scale(x0, x1, box.left, box.right, false);
      const Y = scale(y0, y1, box.bottom, box.top, state.log);
      view = { X, Y, box, x0, x1, thick: lines.length > 30 ? 1.1 : 1.7 };
      axes(pen, box, X, Y, [x0, x1, y0, y1], width);
      pen.lineJoin = "round";
      pen.lineWidth = view.thick;
      for (const line of lines) if (!isDense(line)) stroke(pen, line, by.colour(by.at(line.run)));
      pixels(pen, lines.filter(isDense));
      if (labelled) ends(pen, names, X, Y, box);
    }

    function axes(pen, box, X, Y, [x0, x1, y0, y1], width) {
      const format = state.x === "seconds" ? clock : short;
      pen.font = "12px system-ui, sans-serif";
      pen.textAlign = "right";
      pen.textBaseline = "middle";
      pen.lineWidth = 1;
      for (const [at, text] of shorts(state.log ? logTicks(y0, y1) : ticks(y0, y1, 5))) {
        pen.strokeStyle = ink("line");
        pen.beginPath();
        pen.moveTo(box.left, Y(at));
        pen.lineTo(box.right, Y(at));
        pen.stroke();
        pen.fillStyle = ink("faint");
        pen.fillText(text, box.left - 6, Y(at));
      }
      pen.textAlign = "center";
      pen.textBaseline = "top";
      for (const at of ticks(x0, x1, width < 500 ? 3 : 6)) pen.fillText(format(at), X(at), box.bottom + 6);
      pen.fillText(data.axes[state.x], (box.left + box.right) / 2, box.bottom + 22);
      pen.textAlign = "left";
      const eased = state.smooth ? ", smoothed (0.9)" : "";
      pen.fillText(`${data.series[state.y]}${eased}${state.log ? ", log" : ""}`, 4, 4);
    }

    const isDense = (line) => line.x.length > (view.box.right - view.box.left) / 2;

    function stroke(pen, line, colour) {
      const { X, Y } = view;
      pen.strokeStyle = colour;
      pen.fillStyle = colour;
      if (isDense(line)) return columns(line, 1, (x, top, bottom) => pen.fillRect(x, top, 1, bottom - top));
      pen.beginPath();
      line.x.forEach((x, at) => (at ? pen.lineTo(X(x), Y(line.y[at])) : pen.moveTo(X(x), Y(line.y[at]))));
      pen.stroke();
      if (line.x.length > 30) return;
      line.x.forEach((x, at) => {
        pen.beginPath();
        pen.arc(X(x), Y(line.y[at]), 2.4, 0, 7);
        pen.fill();
      });
    }

    function columns(line, density, each) {
      // The line as a bar a pixel: each(x, top, bottom), in pixels of the screen.
      const half = (view.thick * density) / 2;
      let [x, y] = [Math.round(view.X(line.x[0]) * density), view.Y(line.y[0]) * density];
      let [top, bottom] = [y, y];
      for (let i = 1; i < line.x.length; i++) {
        const [toX, toY] = [Math.round(view.X(line.x[i]) * density), view.Y(line.y[i]) * density];
        const slope = (toY - y) / (toX - x || 1);
        for (; x < toX; x++, y += slope) {
          each(x, Math.min(top, y, y + slope) - half, Math.max(bottom, y, y + slope) + half);
          [top, bottom] = [y + slope, y + slope];
        }
        y = toY;
        [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
      }
      each(x, top - half, bottom + half);
    }

    function pixels(pen, dense) {
      // A hundred noisy lines of 1,000 points cross themselves so often that stroking them takes seconds.
      const density = window.devicePixelRatio || 1;
      const image = pen.getImageData(0, 0, base.width, base.height);
      const { data: bytes, width, height } = image;
      const words = new Uint32Array(bytes.buffer);
      let parts = null;
      const blend = (at, share) => {
        for (let part = 0; part < 4; part++) bytes[4 * at + part] += (parts[part] - bytes[4 * at + part]) * share;
      };
      for (const line of dense) {
        pen.fillStyle = by.colour(by.at(line.run));
        parts = new Uint8ClampedArray([...[1, 3, 5].map((at) => parseInt(pen.fillStyle.slice(at, at + 2), 16)), 255]);
        const [whole] = new Uint32Array(parts.buffer);
        columns(line, density, (x, top, bottom) => {
          const [first, last] = [Math.max(Math.floor(top), 0), Math.min(Math.ceil(bottom), height) - 1];
          for (let y = first + 1; y < last; y++) words[y * width + x] = whole;
          for (const y of first < last ? [first, last] : [first])
            blend(y * width + x, Math.min(y + 1, bottom) - Math.max(y, top));
        });
      }
      pen.putImageData(image, 0, 0);
    }

    function ends(pen, named, X, Y, box) {
      // The name of each level beside the end of its lowest line, moved apart where two would touch.
      const places = by.levels
        .map((_, at) => {
          const own = lines.filter((line) => by.at(line.run) === at);
          return own.length ? { at, y: Math.max(...own.map((line) => Y(line.y.at(-1)))) } : null;
        })
        .filter(Boolean)
        .sort((a, b) => a.y - b.y);
      places.forEach((place, i) => (place.y = Math.max(place.y, i ? places[i - 1].y + 14 : box.top)));
      for (let i = places.length - 1, floor = box.bottom; i >= 0; i--, floor -= 14) places[i].y = Math.min(places[i].y, floor);
      pen.font = "600 12px system-ui, sans-serif";
      pen.textAlign = "left";
      pen.textBaseline = "middle";
      for (const { at, y } of places) {
        pen.fillStyle = by.colour(at);
        pen.fillText(named[at], box.right + 8, y, 212);
      }
    }

    function nearest(mx, my) {
      // The line that is nearest above or below the pointer, and its logged point nearest to it.
      let best = null;
      const at = view.x0 + ((mx - view.box.left) / (view.box.right - view.box.left)) * (view.x1 - view.x0);
      for (const line of lines) {
        const { x, y } = line;
        if (at < x[0] - (view.x1 - view.x0) / 50 || at > x[x.length - 1] + (view.x1 - view.x0) / 50) continue;
        let low = 0;
        let high = x.length - 1;
        while (high - low > 1) {
          const middle = (low + high) >> 1;
          if (x[middle] <= at) low = middle;
          else high = middle;
        }
        const share = x[high] > x[low] ? Math.min(Math.max((at - x[low]) / (x[high] - x[low]), 0), 1) : 0;
        const far = Math.abs(view.Y(y[low]) + share * (view.Y(y[high]) - view.Y(y[low])) - my);
        if (!best || far < best.far) best = { line, far, index: share < 0.5 ? low : high };
      }
      return best;
    }

    function hover(event) {
      const place = over.getBoundingClientRect();
      const pen = overPen;
      wipe();
      const found = view && nearest(event.clientX - place.left, event.clientY - place.top);
      if (!found || found.far > 60) return;
      const { line, index } = found;
      const [x, y] = [view.X(line.x[index]), view.Y(line.y[index])];
      view.thick = pen.lineWidth = 6;
      stroke(pen, line, ink("paper"));
      view.thick = pen.lineWidth = 3;
      stroke(pen, line, by.colour(by.at(line.run)));
      pen.fillStyle = ink("ink");
      pen.beginPath();
      pen.arc(x, y, 4.5, 0, 7);
      pen.fill();
      const where = state.x === "seconds" ? clock(line.x[index]) : line.x[index].toLocaleString("en");
      bubble.show(x, y, nameOf(line.run), [
        `${data.series[state.y]}: ${Number(line.y[index].toPrecision(5))}`,
        `${data.axes[state.x]}: ${where}`,
        ...(line.run.state === "finished" ? [] : [line.run.state]),
      ]);
    }

    function chips() {
      const chip = (text, colour, runs) => {
        const button = el("button", { type: "button", "aria-pressed": runs.some((run) => !hidden.has(run)) });
        const swatch = el("i");
        swatch.style.background = colour;
        button.append(swatch, text);
        button.addEventListener("click", () => {
          const off = runs.some((run) => !hidden.has(run));
          for (const run of runs) off ? hidden.add(run) : hidden.delete(run);
          chips();
          draw();
        });
        return button;
      };
      const all = (text, off) =>
        el("button", { type: "button", onclick: () => {
          for (const run of drawn) off ? hidden.add(run) : hidden.delete(run);
          chips();
          draw();
        } }, text);
      legend.replaceChildren(
        ...by.levels.map((value, at) => chip(shown(value), by.colour(at), drawn.filter((run) => by.at(run) === at))),
        all("all", false),
        all("none", true),
      );
      each.replaceChildren(...drawn.map((run) => chip(nameOf(run), by.colour(by.at(run)), [run])));
    }

    const again = (key) => (value) => {
      state[key] = value;
      if (key === "by") {
        by = levelling(value);
        chips();
      }
      draw();
    };
    const keys = [["point", "point"], ...data.keys.map((key) => [key, keyNames[key]])];
    section.append(
      el("div", { class: "controls" },
        choice("curve", Object.entries(data.series), state.y, again("y")),
        choice("over", Object.entries(data.axes), state.x, again("x")),
        choice("colour", keys, state.by, again("by")),
        toggle("log", false, again("log")),
        toggle("smooth", false, again("smooth")),
      ),
      plot,
      legend,
      el("details", {}, el("summary", {}, "each run"), each),
    );
    over.addEventListener("pointermove", hover);
    over.addEventListener("pointerdown", hover);
    over.addEventListener("pointerleave", wipe);
    chips();
    redraws.push(() => { chips(); draw(); });
  }

  // Best learning rate per rank ----------------------------------------------------------------------
  function bestRates() {
    const found = data.best_lr;
    const place = document.querySelector("#best-lr .chart");
    if (!place) return;
    const draw = () => {
      const width = Math.max(place.clientWidth, 240);
      const height = 260;
      const box = { left: 52, right: width - 56, top: 26, bottom: height - 42 };
      const rates = found.columns.filter((value) => typeof value === "number");
      const isLog = rates.every((rate) => rate > 0);
      const means = found.cells.flat().filter(Boolean).map((cell) => cell.mean);
      const gap = (Math.max(...means) - Math.min(...means)) * 0.08 || 0.01;
      const [y0, y1] = [Math.min(...means) - gap, Math.max(...means) + gap];
      const X = scale(Math.min(...rates), Math.max(...rates), box.left, box.right, isLog);
      const Y = scale(y0, y1, box.bottom, box.top, false);
      const canvas = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "metric over learning rate, a line a rank" });
      for (const [at, text] of shorts(ticks(y0, y1, 4))) {
        canvas.append(svg("line", { x1: box.left, x2: box.right, y1: Y(at), y2: Y(at) }));
        canvas.append(svg("text", { x: box.left - 6, y: Y(at) + 4, "text-anchor": "end" }, text));
      }
      for (const rate of rates) canvas.append(svg("text", { x: X(rate), y: box.bottom + 16, "text-anchor": "middle" }, short(rate)));
      canvas.append(svg("text", { x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" }, "learning rate"));
      canvas.append(svg("text", { x: 4, y: 12 }, `${data.metric.name}, ${data.metric.unit}`));
      const marks = [];
      found.rows.forEach((rank, i) => {
        const cells = found.cells[i].map((cell, j) => cell && { ...cell, rate: found.columns[j] }).filter((cell) => cell && typeof cell.rate === "number");
        if (!cells.length) return;
        const colour = ramp(found.rows.length > 1 ? i / (found.rows.length - 1) : 0.5);
        const path = cells.map((cell, at) => `${at ? "L" : "M"}${X(cell.rate)},${Y(cell.mean)}`).join("");
        canvas.append(svg("path", { d: path, fill: "none", stroke: colour, "stroke-width": 2 }));
        const best = cells.reduce((a, b) => (a.mean * sign <= b.mean * sign ? a : b));
        for (const cell of cells) {
          const dot = svg("circle", { cx: X(cell.rate), cy: Y(cell.mean), r: cell === best ? 6 : 3, fill: colour });
          if (cell === best) put(dot, { stroke: ink("ink"), "stroke-width": 2 }, []);
          dot.append(svg("title", {}, `${cell.label}: ${cell.mean.toFixed(4)}`));
          canvas.append(dot);
        }
        marks.push({ y: Y(cells.at(-1).mean), x: X(cells.at(-1).rate), text: `r=${shown(rank)}`, colour });
      });
      marks.sort((a, b) => a.y - b.y).forEach((mark, i) => (mark.y = Math.max(mark.y, i ? marks[i - 1].y + 14 : 0)));
      for (const mark of marks)
        canvas.append(svg("text", { x: mark.x + 10, y: mark.y + 4, style: `fill:${mark.colour};font-weight:600` }, mark.text));
      place.replaceChildren(canvas);
    };
    redraws.push(draw);
  }

  // Parallel coordinates -----------------------------------------------------------------------------
  function parallel() {
    const section = document.getElementById("parallel");
    const points = data.sections.length ? data.points.slice(0, data.sections[0].count) : [];
    if (points.length < 2 || !data.keys.length) return section.remove();
    const place = el("div", { class: "plot parallel chart" });
    section.append(el("p", { class: "faint" }, "A line a point, the best one thick. A click on a value shows its points alone."), place);
    const keys = data.keys.slice(0, 8);
    const levels = Object.fromEntries(keys.map((key) => [key, levelsOf(points.map((point) => point.settings[key]))]));
    const level = (point, key) => levels[key].findIndex((value) => JSON.stringify(value) === JSON.stringify(point.settings[key]));
    const picked = new Map();
    const means = points.map((point) => point.mean);
    const [low, high] = [Math.min(...means), Math.max(...means)];
    const order = [...points].sort((a, b) => (b.mean - a.mean) * sign); // the best is drawn last
    const draw = () => {
      const width = place.clientWidth;
      const height = place.clientHeight;
      const canvas = svg("svg", { viewBox: `0 0 ${width} ${height}` });
      const [top, bottom, left, right] = [44, height - 16, 34, width - 64];
      const axis = (at) => left + (at / keys.length) * (right - left);
      const Y = scale(low, high, sign > 0 ? top : bottom, sign > 0 ? bottom : top, false);
      const at = (point, key) => {
        const count = levels[key].length;
        return count > 1 ? bottom - (level(point, key) / (count - 1)) * (bottom - top) : (top + bottom) / 2;
      };
      const shows = (point) => [...picked].every(([key, value]) => level(point, key) === value);
      const goodness = (point) => (high > low ? ((sign > 0 ? high - point.mean : point.mean - low) / (high - low)) : 1);
      for (const point of order) {
        const places = [...keys.map((key, i) => [axis(i), at(point, key)]), [right, Y(point.mean)]];
        const d = places
          .map(([x, y], i) => {
            if (!i) return `M${x},${y}`;
            const half = (places[i - 1][0] + x) / 2;
            return `C${half},${places[i - 1][1]} ${half},${y} ${x},${y}`;
          })
          .join("");
        const line = svg("path", { d, stroke: ramp(goodness(point)), class: shows(point) ? (point === points[0] ? "best" : "") : "off" });
        const hit = svg("path", { d, class: "hit" }, svg("title", {}, `${point.label}: ${point.mean.toFixed(4)}`));
        if (shows(point)) {
          hit.addEventListener("pointerenter", () => line.classList.add("on"));
          hit.addEventListener("pointerleave", () => line.classList.remove("on"));
        }
        canvas.append(line, hit);
      }
      keys.forEach((key, i) => {
        const x = axis(i);
        canvas.append(svg("line", { x1: x, x2: x, y1: top, y2: bottom }));
        canvas.append(svg("text", { x: i ? x : 4, y: i % 2 && width < 500 ? 28 : 14, "text-anchor": i ? "middle" : "start" }, data.names[key]));
        const every = Math.ceil(levels[key].length / 12);
        levels[key].forEach((value, j) => {
          if (j % every) return;
          const y = levels[key].length > 1 ? bottom - (j / (levels[key].length - 1)) * (bottom - top) : (top + bottom) / 2;
          const isPicked = picked.get(key) === j;
          const pick = () => {
            isPicked ? picked.delete(key) : picked.set(key, j);
            draw();
          };
          canvas.append(svg("text", { x: x + 6, y: y + 4, class: isPicked ? "pick picked" : "pick", onclick: pick }, shown(value).slice(0, 18)));
        });
      });
      canvas.append(svg("line", { x1: right, x2: right, y1: top, y2: bottom }));
      canvas.append(svg("text", { x: width - 4, y: 14, "text-anchor": "end" }, data.metric.name));
      for (const [value, text] of shorts(ticks(low, high, 4))) canvas.append(svg("text", { x: right + 6, y: Y(value) + 4 }, text));
      place.replaceChildren(canvas);
    };
    redraws.push(draw);
  }

  // Two runs side by side ----------------------------------------------------------------------------
  function pair() {
    const section = document.getElementById("pair");
    const runs = data.runs.filter((run) => run.state === "finished");
    if (runs.length < 2) return section.remove();
    const options = runs.map((run, at) => [String(at), nameOf(run)]);
    // The best two, of one seed where they share one.
    const first = Math.max(runs.findIndex((run) => run.point === 0), 0);
    const rivals = runs.map((run, at) => ({ run, at })).filter(({ run, at }) => at !== first && run.point !== runs[first].point);
    rivals.sort((a, b) => a.run.point - b.run.point || (b.run.seed === runs[first].seed) - (a.run.seed === runs[first].seed));
    const chosen = [first, rivals.length ? rivals[0].at : first ? 0 : 1];
    const out = el("div", { id: "pair-out" });
    const differing = (a, b) => {
      const keys = [...new Set([...Object.keys(a.config), ...Object.keys(b.config)])].sort();
      const rows = keys.filter((key) => JSON.stringify(a.config[key]) !== JSON.stringify(b.config[key]));
      const cell = (value) => (value === undefined ? "–" : value === null ? "null" : shown(value));
      const row = (key) => el("tr", {}, el("td", {}, key), el("td", {}, cell(a.config[key])), el("td", {}, cell(b.config[key])));
      const seeds = a.seed === b.seed ? [] : [el("tr", {}, el("td", {}, "seed"), el("td", {}, a.seed), el("td", {}, b.seed))];
      const head = el("tr", {}, el("th", {}, "what differs"), el("th", {}, "A"), el("th", {}, "B"));
      return el("div", { class: "scroll" }, el("table", { id: "differs" }, head, ...rows.map(row), ...seeds));
    };
    const said = (name, at, right) => {
      const mark = right === undefined ? [] : [el("span", { class: right ? "right" : "wrong" }, right ? " ✓ right" : " ✗ wrong")];
      return el("figure", {}, el("figcaption", {}, name, ...mark), el("div", { class: "row" }, at === undefined ? "–" : data.texts[at]));
    };
    const asked = (one, other) =>
      el("div", { class: "asked" },
        el("div", { class: "row" }, data.texts[one.question]),
        el("div", {},
          said("expected", one.expected),
          said("before training", one.before),
          said("A", one.after, one.right),
          said("B", other.after, other.right),
        ),
      );
    const draw = () => {
      const [a, b] = chosen.map((at) => runs[at]);
      const theirs = new Map(b.samples.map((sample) => [sample.question, sample]));
      const shared = a.samples.filter((sample) => theirs.has(sample.question));
      const none = el("p", { class: "faint" }, "The two have answered no question in common.");
      out.replaceChildren(differing(a, b), el("h3", {}, "The same questions, answered"), ...(shared.length ? shared.map((one) => asked(one, theirs.get(one.question))) : [none]));
    };
    const choose = (name, which) => choice(name, options, String(chosen[which]), (value) => {
      chosen[which] = Number(value);
      draw();
    });
    section.append(el("div", { class: "controls" }, choose("A", 0), choose("B", 1)), out);
    draw();
  }

  // ---------------------------------------------------------------------------------------------------
  curvesSection();
  bestRates();
  parallel();
  pair();
  const redraw = () => redraws.forEach((draw) => draw());
  document.getElementById("theme").addEventListener("click", () => {
    root.style.colorScheme = isDark() ? "light" : "dark";
    redraw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  let wide = 0;
  new ResizeObserver(() => {
    if (document.body.clientWidth === wide) return;
    wide = document.body.clientWidth;
    redraw();
  }).observe(document.body);
  wide = document.body.clientWidth;
  redraw();
  root.dataset.ready = (performance.now() - began).toFixed(0);
})();
