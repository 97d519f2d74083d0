// Flows between stages, drawn as SVG. Words from data only ever become textContent.

const SVG = "http://www.w3.org/2000/svg";
const BAR = 12;
const GAP = 22;
const TOP = 16;
const SHAPES = { gold: "● ", held: "■ ", pending: "○ " };

const draw = (tag, attributes, words) => {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  if (words !== undefined) element.textContent = words;
  return element;
};

const number = (count) => count.toLocaleString("en-US");

// Places for the stages: columns over the width, in each one below the other, heights in proportion to counts.
const layout = (stages, width) => {
  const columns = Math.max(...stages.map((stage) => stage.column)) + 1;
  const step = width / columns;
  const most = Math.max(...stages.filter((s) => s.column === 1).map((s) => s.count), 1);
  const crowd = Math.max(...Array.from({ length: columns }, (_, c) => stages.filter((s) => s.column === c).length));
  const scale = Math.max(220, crowd * 14) / most;
  const bottoms = Array(columns).fill(TOP);
  const places = stages.map((stage) => {
    const height = Math.max(2, stage.count * scale);
    const place = { x: stage.column * step, y: bottoms[stage.column], height, out: 0, into: 0 };
    bottoms[stage.column] += height + GAP;
    return place;
  });
  return { places, scale, step, height: Math.max(...bottoms) + 4 };
};

const band = (from, to, thick) => {
  const [x0, x1] = [from.x + BAR, to.x];
  const [y0, y1] = [from.y + from.out, to.y + to.into];
  const half = (x0 + x1) / 2;
  return `M${x0},${y0} C${half},${y0} ${half},${y1} ${x1},${y1} L${x1},${y1 + thick} C${half},${y1 + thick} ${half},${y0 + thick} ${x0},${y0 + thick} Z`;
};

// A stage leads to its samples: by mouse, and by Enter.
const leading = (element, said, go) => {
  element.classList.add("leads");
  element.setAttribute("role", "link");
  element.setAttribute("tabindex", "0");
  element.setAttribute("aria-label", `Show ${said}`);
  element.addEventListener("click", go);
  element.addEventListener("keydown", (event) => event.key === "Enter" && go());
};

const paint = (root, data, go) => {
  const width = Math.max(root.clientWidth, 640);
  const { places, scale, step, height } = layout(data.stages, width);
  const picture = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": data.label });
  for (const flow of data.flows) {
    const [from, to] = [places[flow.start], places[flow.end]];
    const thick = Math.max(1, flow.count * scale);
    const path = draw("path", { d: band(from, to, thick), class: `flow ${data.stages[flow.end].verdict || "plain"}` });
    path.append(draw("title", {}, `${data.stages[flow.start].label} → ${data.stages[flow.end].label}: ${number(flow.count)}`));
    picture.append(path);
    from.out += thick;
    to.into += thick;
  }
  data.stages.forEach((stage, i) => {
    const { x, y, height: tall } = places[i];
    const bar = draw("rect", { x, y, width: BAR, height: tall, rx: 2, class: `bar ${stage.verdict || "plain"}` });
    picture.append(bar);
    const said = `${SHAPES[stage.column === 4 ? stage.verdict : ""] || ""}${stage.label} ${number(stage.count)}`;
    const room = Math.floor((step - BAR - 8) / 6.6);
    const words = said.length > room ? `${stage.label.slice(0, Math.max(4, room - number(stage.count).length - 4))}… ${number(stage.count)}` : said;
    const label = draw("text", { x: x + 1, y: y - 4 }, words);
    label.append(draw("title", {}, said));
    picture.append(label);
    if (!stage.leads) return;
    leading(label, said, () => go(i));
    bar.classList.add("leads");
    bar.addEventListener("click", () => go(i));
  });
  root.replaceChildren(picture);
};

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const go = (stage) => setTriggerValue("go", stage);
  let root = parentElement.querySelector(".sankey");
  if (!root) {
    root = document.createElement("div");
    root.className = "sankey";
    parentElement.append(root);
  }
  paint(root, data, go);
  const watch = new ResizeObserver(() => paint(root, data, go));
  watch.observe(parentElement instanceof ShadowRoot ? parentElement.host : parentElement);
  return () => watch.disconnect();
}
