// Charts of points: the best learning rate of each rank, and parallel coordinates.

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
