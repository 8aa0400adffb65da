// How curves are painted on a canvas. `view` holds the lines, their scales and their colours.

const isDense = (view, line) => line.x.length > (view.box.right - view.box.left) / 2;

function axes(pen, view) {
  const { X, Y, box, x0, x1, y0, y1, width, state } = view;
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

function stroke(pen, view, line, colour) {
  const { X, Y } = view;
  pen.strokeStyle = colour;
  pen.fillStyle = colour;
  if (isDense(view, line)) return columns(view, line, 1, (x, top, bottom) => pen.fillRect(x, top, 1, bottom - top));
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

function columns(view, line, density, each) {
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

function pixels(pen, view, dense) {
  // A hundred noisy lines of 1,000 points cross themselves so often that stroking them takes seconds.
  const density = window.devicePixelRatio || 1;
  const image = pen.getImageData(0, 0, pen.canvas.width, pen.canvas.height);
  const { data: bytes, width, height } = image;
  const words = new Uint32Array(bytes.buffer);
  let parts = null;
  const blend = (at, share) => {
    for (let part = 0; part < 4; part++) bytes[4 * at + part] += (parts[part] - bytes[4 * at + part]) * share;
  };
  for (const line of dense) {
    pen.fillStyle = view.by.colour(view.by.at(line.run));
    parts = new Uint8ClampedArray([...[1, 3, 5].map((at) => parseInt(pen.fillStyle.slice(at, at + 2), 16)), 255]);
    const [whole] = new Uint32Array(parts.buffer);
    columns(view, line, density, (x, top, bottom) => {
      const [first, last] = [Math.max(Math.floor(top), 0), Math.min(Math.ceil(bottom), height) - 1];
      for (let y = first + 1; y < last; y++) words[y * width + x] = whole;
      for (const y of first < last ? [first, last] : [first])
        blend(y * width + x, Math.min(y + 1, bottom) - Math.max(y, top));
    });
  }
  pen.putImageData(image, 0, 0);
}

function ends(pen, view, names) {
  const { Y, box, by, lines } = view;
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
    pen.fillText(names[at], box.right + 8, y, 212);
  }
}

function nearest(view, mx, my) {
  // The line that is nearest above or below the pointer, and its logged point nearest to it.
  let best = null;
  const at = view.x0 + ((mx - view.box.left) / (view.box.right - view.box.left)) * (view.x1 - view.x0);
  for (const line of view.lines) {
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
