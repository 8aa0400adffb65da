// Two runs side by side, and the beginning of it all.

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
