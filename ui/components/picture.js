// One picture with zoom, and masks over it. Words from data only ever become textContent.

const MOST = 16;

class Picture {
  constructor(root) {
    this.frame = make("div", "frame");
    this.frame.tabIndex = 0;
    this.frame.setAttribute("role", "img");
    this.stack = make("div", "stack");
    this.tools = make("div", "tools");
    this.frame.append(this.stack);
    this.element = make("div", "picture");
    this.element.append(this.frame, this.tools);
    root.append(this.element);
    this.reset();
    this.frame.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.frame.addEventListener("pointerdown", (event) => this.grab(event));
    this.frame.addEventListener("dblclick", () => this.reset());
    this.frame.addEventListener("keydown", (event) => this.pressed(event));
  }

  show({ data }) {
    if (this.sample === data.sample) return;
    this.sample = data.sample;
    this.frame.setAttribute("aria-label", data.label);
    const picture = make("img");
    picture.src = `data:image/jpeg;base64,${data.image}`;
    picture.alt = data.label;
    picture.draggable = false;
    this.stack.replaceChildren(picture);
    const rows = [this.zoomTools()];
    for (const mask of data.masks) rows.push(this.mask(mask));
    this.tools.replaceChildren(...rows);
    this.reset();
  }

  zoomTools() {
    const row = make("div", "row");
    for (const [label, does] of [["−", () => this.zoom(1 / 1.5)], ["+", () => this.zoom(1.5)], ["Fit", () => this.reset()]]) {
      const button = make("button", "", label);
      button.type = "button";
      button.setAttribute("aria-label", { "−": "Zoom out", "+": "Zoom in", Fit: "Fit" }[label]);
      button.addEventListener("click", does);
      row.append(button);
    }
    row.append(make("span", "hint", "wheel or + and −, drag or arrows, double click fits"));
    return row;
  }

  mask({ name, image }) {
    const layer = make("img", "mask");
    layer.src = `data:image/png;base64,${image}`;
    layer.alt = "";
    layer.dataset.mask = name;
    layer.draggable = false;
    layer.style.opacity = "0.5";
    this.stack.append(layer);
    const row = make("label", "row");
    const slider = make("input");
    Object.assign(slider, { type: "range", min: "0", max: "1", step: "0.05", value: "0.5" });
    slider.addEventListener("input", () => (layer.style.opacity = slider.value));
    row.append(make("span", "", `${name} over it`), slider);
    return row;
  }

  reset() {
    [this.scale, this.x, this.y] = [1, 0, 0];
    this.place();
  }

  place() {
    const { clientWidth: width, clientHeight: height } = this.frame;
    const room = (size) => (size * (this.scale - 1)) / 2;
    this.x = Math.max(-room(width), Math.min(room(width), this.x));
    this.y = Math.max(-room(height), Math.min(room(height), this.y));
    this.stack.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.frame.dataset.scale = this.scale.toFixed(2);
  }

  // The point (x, y) of the frame, measured from its middle, stays where it is.
  zoom(by, x = 0, y = 0) {
    const scale = Math.max(1, Math.min(MOST, this.scale * by));
    const real = scale / this.scale;
    this.x = x - (x - this.x) * real;
    this.y = y - (y - this.y) * real;
    this.scale = scale;
    this.place();
  }

  wheel(event) {
    event.preventDefault();
    const box = this.frame.getBoundingClientRect();
    const x = event.clientX - box.left - box.width / 2;
    const y = event.clientY - box.top - box.height / 2;
    this.zoom(Math.exp(-event.deltaY / 400), x, y);
  }

  grab(event) {
    const from = [event.clientX - this.x, event.clientY - this.y];
    this.frame.setPointerCapture(event.pointerId);
    const move = (moved) => {
      [this.x, this.y] = [moved.clientX - from[0], moved.clientY - from[1]];
      this.place();
    };
    this.frame.addEventListener("pointermove", move);
    this.frame.addEventListener("pointerup", () => this.frame.removeEventListener("pointermove", move), { once: true });
  }

  pressed(event) {
    const step = 60;
    const does = {
      "+": () => this.zoom(1.5),
      "=": () => this.zoom(1.5),
      "-": () => this.zoom(1 / 1.5),
      0: () => this.reset(),
      ArrowLeft: () => this.shift(step, 0),
      ArrowRight: () => this.shift(-step, 0),
      ArrowUp: () => this.shift(0, step),
      ArrowDown: () => this.shift(0, -step),
    }[event.key];
    if (!does || event.ctrlKey || event.metaKey || event.altKey) return;
    does();
    event.preventDefault();
    event.stopPropagation();
  }

  shift(x, y) {
    this.x += x;
    this.y += y;
    this.place();
  }
}

export default mounted(Picture);
