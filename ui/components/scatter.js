// The map: points on a canvas, zoomed by wheel, moved by drag, taken with a lasso. Words from data only ever become textContent.

const COLOURS = ["green", "orange", "blue", "red", "violet", "yellow", "green", "orange", "blue", "gray"];
const MARKS = { gold: "● ", held: "■ ", pending: "○ " };
const VERDICTS = ["gold", "held", "pending"];
const NEAR = 12;
const CLICK = 4;
const DRAFT = 8000;
const REST = 150;

const bytes = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));

class Scatter {
  constructor(root) {
    this.points = document.createElement("canvas");
    this.drawn = 0;
    this.bar = make("div", "bar");
    this.frame = make("div", "frame");
    this.frame.tabIndex = 0;
    this.frame.setAttribute("role", "application");
    this.frame.setAttribute("aria-label", "Map of the embedding space");
    this.canvas = make("canvas", "points");
    this.frame.append(this.canvas);
    this.side = make("div", "side");
    const stage = make("div", "stage");
    stage.append(this.frame, this.side);
    this.element = make("div", "map");
    this.element.append(this.bar, stage);
    root.append(this.element);
    [this.lassoing, this.path] = [false, []];
    this.fit();
    this.canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.canvas.addEventListener("pointerdown", (event) => this.grab(event));
    this.canvas.addEventListener("dblclick", () => this.data.picked && this.go({ open: this.data.picked.id }));
    this.frame.addEventListener("keydown", (event) => this.pressed(event));
    this.watch = new ResizeObserver(() => this.draw());
    this.watch.observe(this.frame);
  }

  end() {
    this.watch.disconnect();
    clearTimeout(this.rest);
  }

  show({ data, setTriggerValue }) {
    this.data = data;
    this.tell = setTriggerValue;
    if (this.raw !== data.x_y || this.rawKinds !== data.kinds) {
      [this.raw, this.rawKinds] = [data.x_y, data.kinds];
      this.places = new Uint16Array(bytes(data.x_y).buffer);
      this.kinds = bytes(data.kinds);
      this.drawn++;
      this.view = undefined;
    }
    this.frame.dataset.points = this.kinds.length;
    this.drawBar();
    this.drawSide();
    this.draw();
  }

  go(where) {
    this.tell("go", where);
  }

  // The view: the point (x, y) of the map is in the middle, `zoom` shortest sides of the frame are the whole map.
  fit() {
    [this.x, this.y, this.zoom] = [0.5, 0.5, 1];
    this.draw();
  }

  get unit() {
    return Math.min(this.frame.clientWidth, this.frame.clientHeight) * this.zoom;
  }

  toPage(x, y) {
    const { clientWidth: width, clientHeight: height } = this.frame;
    return [(x - this.x) * this.unit + width / 2, (y - this.y) * this.unit + height / 2];
  }

  toMap(left, top) {
    const { clientWidth: width, clientHeight: height } = this.frame;
    return [(left - width / 2) / this.unit + this.x, (top - height / 2) / this.unit + this.y];
  }

  zoomBy(by, left = this.frame.clientWidth / 2, top = this.frame.clientHeight / 2) {
    const [x, y] = this.toMap(left, top);
    this.zoom = Math.max(0.8, Math.min(200, this.zoom * by));
    const [nowX, nowY] = this.toMap(left, top);
    this.move(x - nowX, y - nowY);
  }

  move(x, y) {
    this.x = Math.max(0, Math.min(1, this.x + x));
    this.y = Math.max(0, Math.min(1, this.y + y));
    this.draw();
  }

  // Drawing --------------------------------------------------------------------------------------

  style(index) {
    const { legend, verdicts } = this.data;
    const { word, special } = legend[index];
    const at = special ? (word === "none" ? 9 : 8) : verdicts ? VERDICTS.indexOf(word) : index;
    const name = special ? "gray" : COLOURS[at];
    const colour = getComputedStyle(this.element).getPropertyValue(`--st-${name}-text-color`).trim();
    return [SHAPES[at], colour || getComputedStyle(this.element).color];
  }

  draw() {
    if (this.waits || !this.data) return;
    this.waits = requestAnimationFrame(() => {
      this.waits = 0;
      this.drawNow();
    });
  }

  // Points lie on a canvas of their own, which is drawn again only when the view or the data changed: first a share of many,
  // and all of them once nothing moves.
  drawNow() {
    const { clientWidth: width, clientHeight: height } = this.frame;
    const scale = devicePixelRatio || 1;
    const count = this.kinds.length;
    const r = Math.max(1.6, Math.min(6, (90 / Math.sqrt(count + 1)) * Math.sqrt(this.zoom)));
    const looks = this.data.legend.map((_, i) => this.style(i));
    const view = JSON.stringify([this.x, this.y, this.zoom, width, height, scale, looks, this.drawn]);
    if (view !== this.view) {
      const moves = this.view !== undefined && count > DRAFT;
      this.drawPoints(width * scale, height * scale, scale, r, looks, moves ? Math.ceil(count / DRAFT) : 1);
      this.view = moves ? "" : view;
      clearTimeout(this.rest);
      if (moves) {
        this.rest = setTimeout(() => {
          this.view = undefined;
          this.draw();
        }, REST);
      }
    }
    this.canvas.width = this.points.width;
    this.canvas.height = this.points.height;
    const pen = this.canvas.getContext("2d");
    if (this.points.width && this.points.height) pen.drawImage(this.points, 0, 0);
    pen.scale(scale, scale);
    this.drawMarks(pen, r);
  }

  drawPoints(width, height, scale, r, looks, step) {
    this.points.width = Math.round(width);
    this.points.height = Math.round(height);
    const pen = this.points.getContext("2d");
    const count = this.kinds.length;
    pen.globalAlpha = count > 5000 ? 0.7 : 0.9;
    const sprites = looks.map((look) => sprite(...look, r, scale));
    const unit = this.unit * scale;
    const [left, top] = [width / 2 - this.x * unit, height / 2 - this.y * unit];
    const room = r * 3 * scale;
    for (let i = 0; i < count; i += step) {
      const x = (this.places[2 * i] / 65535) * unit + left;
      const y = (this.places[2 * i + 1] / 65535) * unit + top;
      if (x < -room || y < -room || x > width + room || y > height + room) continue;
      const image = sprites[this.kinds[i]];
      pen.drawImage(image, x - image.width / 2, y - image.height / 2);
    }
  }

  drawMarks(pen, r) {
    const style = getComputedStyle(this.element);
    pen.strokeStyle = pen.fillStyle = style.color;
    pen.lineWidth = 2;
    const lasso = this.path.length ? this.path : this.data.lasso;
    if (lasso.length > 1) {
      pen.beginPath();
      lasso.forEach(([x, y], i) => pen[i ? "lineTo" : "moveTo"](...this.toPage(x, y)));
      pen.closePath();
      pen.globalAlpha = 0.08;
      pen.fill("evenodd");
      pen.globalAlpha = 1;
      pen.setLineDash([6, 4]);
      pen.stroke();
      pen.setLineDash([]);
    }
    if (this.data.picked) {
      const at = this.data.picked.at;
      pen.beginPath();
      pen.arc(...this.toPage(this.places[2 * at] / 65535, this.places[2 * at + 1] / 65535), r + 5, 0, 2 * Math.PI);
      pen.stroke();
    }
    if (this.frame.matches(":focus-visible")) {
      const [x, y] = [this.frame.clientWidth / 2, this.frame.clientHeight / 2];
      pen.lineWidth = 1;
      pen.beginPath();
      for (const [dx, dy] of [[8, 0], [0, 8]]) {
        pen.moveTo(x - dx, y - dy);
        pen.lineTo(x + dx, y + dy);
      }
      pen.stroke();
    }
  }

  drawBar() {
    const button = (label, key, does) => {
      const found = make("button", "", label);
      found.type = "button";
      found.append(make("kbd", "", key));
      found.addEventListener("click", does);
      return found;
    };
    const mode = button("Lasso", "l", () => this.toggle());
    mode.setAttribute("aria-pressed", String(this.lassoing));
    this.bar.replaceChildren(
      mode,
      button("Take all in view", "v", () => this.takeView()),
      button("+", "+", () => this.zoomBy(1.5)),
      button("−", "-", () => this.zoomBy(1 / 1.5)),
      button("Fit", "0", () => this.fit()),
      make("span", "count", this.data.shown),
      make("span", "hint", "wheel zooms, drag moves, Shift + drag draws a lasso; arrows move, Enter picks what is in the middle"),
    );
  }

  drawSide() {
    const list = make("ul");
    list.setAttribute("aria-label", "Legend");
    this.data.legend.forEach(({ word, count, special }, index) => {
      const line = make("li");
      const scale = devicePixelRatio || 1;
      const shape = make("canvas");
      shape.width = shape.height = 18 * scale;
      const image = sprite(...this.style(index), 5, scale);
      shape.getContext("2d").drawImage(image, 9 * scale - image.width / 2, 9 * scale - image.height / 2);
      line.append(shape, make("span", special ? "word special" : "word", word), make("span", "number", count));
      list.append(line);
    });
    this.side.replaceChildren(list);
    if (this.data.picked) this.side.append(this.card(this.data.picked));
  }

  card({ id, image, verdict, line }) {
    const card = make("div", "card");
    card.dataset.sample = id;
    if (image) {
      const picture = make("img");
      picture.src = `data:image/jpeg;base64,${image}`;
      picture.alt = `thumbnail of sample ${id.slice(0, 12)}`;
      card.append(picture);
    } else {
      card.append(make("div", "none", "✕ no picture"));
    }
    card.append(make("div", "", `${MARKS[verdict] ?? ""}${verdict}`), make("div", "id", id.slice(0, 16)), make("div", "line", line));
    const open = make("button", "", "Open");
    open.type = "button";
    open.addEventListener("click", () => this.go({ open: id }));
    card.append(open);
    return card;
  }

  // Hands ----------------------------------------------------------------------------------------

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  wheel(event) {
    event.preventDefault();
    this.zoomBy(Math.exp(-event.deltaY / 400), ...this.at(event));
  }

  grab(event) {
    if (event.button) return;
    this.frame.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    const start = this.at(event);
    const drawing = this.lassoing || event.shiftKey;
    let [last, far] = [start, 0];
    if (drawing) this.path = [this.toMap(...start)];
    const moved = (next) => {
      const here = this.at(next);
      far = Math.max(far, Math.hypot(here[0] - start[0], here[1] - start[1]));
      if (drawing) this.path.push(this.toMap(...here));
      else this.move((last[0] - here[0]) / this.unit, (last[1] - here[1]) / this.unit);
      last = here;
      this.draw();
    };
    const ended = (next) => {
      this.canvas.removeEventListener("pointermove", moved);
      this.canvas.removeEventListener("pointerup", ended);
      this.canvas.removeEventListener("pointercancel", ended);
      const path = this.path;
      this.path = [];
      if (far < CLICK && next.type === "pointerup") this.pick(...start);
      else if (drawing) this.take(path);
    };
    this.canvas.addEventListener("pointermove", moved);
    this.canvas.addEventListener("pointerup", ended);
    this.canvas.addEventListener("pointercancel", ended);
  }

  take(path) {
    const polygon = polygonOf(path);
    if (polygon.length < 3) return this.draw();
    [this.data.lasso, this.lassoing] = [polygon, false];
    this.frame.classList.remove("lassoing");
    this.drawBar();
    this.draw();
    this.go({ lasso: polygon });
  }

  takeView() {
    const { clientWidth: width, clientHeight: height } = this.frame;
    this.take([[0, 0], [width, 0], [width, height], [0, height]].map(([x, y]) => this.toMap(x, y)));
  }

  toggle() {
    this.lassoing = !this.lassoing;
    this.frame.classList.toggle("lassoing", this.lassoing);
    this.drawBar();
  }

  // The point nearest to a place of the page, unless all are farther than so many pixels.
  pick(left, top, near = NEAR) {
    const [x, y] = this.toMap(left, top);
    let [best, at] = [(near / this.unit) ** 2, -1];
    for (let i = 0; i < this.kinds.length; i++) {
      const gap = (this.places[2 * i] / 65535 - x) ** 2 + (this.places[2 * i + 1] / 65535 - y) ** 2;
      if (gap < best) [best, at] = [gap, i];
    }
    if (at >= 0) this.go({ pick: at });
  }

  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = 60 / this.unit;
    const does = {
      "+": () => this.zoomBy(1.5),
      "=": () => this.zoomBy(1.5),
      "-": () => this.zoomBy(1 / 1.5),
      0: () => this.fit(),
      l: () => this.toggle(),
      v: () => this.takeView(),
      o: () => this.data.picked && this.go({ open: this.data.picked.id }),
      Escape: () => this.data.lasso.length && this.go({ lasso: [] }),
      Enter: () => this.pick(this.frame.clientWidth / 2, this.frame.clientHeight / 2, Infinity),
      ArrowLeft: () => this.move(-step, 0),
      ArrowRight: () => this.move(step, 0),
      ArrowUp: () => this.move(0, -step),
      ArrowDown: () => this.move(0, step),
    }[event.key];
    if (!does) return;
    does();
    event.preventDefault();
    event.stopPropagation();
  }
}

export default mounted(Scatter);
