// Curves of all runs over loss tokens, steps or time, with hover and toggles.

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
    view = { X, Y, box, x0, x1, y0, y1, width, lines, by, state, thick: lines.length > 30 ? 1.1 : 1.7 };
    axes(pen, view);
    pen.lineJoin = "round";
    pen.lineWidth = view.thick;
    for (const line of lines) if (!isDense(view, line)) stroke(pen, view, line, by.colour(by.at(line.run)));
    pixels(pen, view, lines.filter((line) => isDense(view, line)));
    if (labelled) ends(pen, view, names);
  }

  function hover(event) {
    const place = over.getBoundingClientRect();
    const pen = overPen;
    wipe();
    const found = view && nearest(view, event.clientX - place.left, event.clientY - place.top);
    if (!found || found.far > 60) return;
    const { line, index } = found;
    const [x, y] = [view.X(line.x[index]), view.Y(line.y[index])];
    view.thick = pen.lineWidth = 6;
    stroke(pen, view, line, ink("paper"));
    view.thick = pen.lineWidth = 3;
    stroke(pen, view, line, by.colour(by.at(line.run)));
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
