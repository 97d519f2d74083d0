// The desk: groups of thumbnails that one looks at, selects and judges, by mouse or by keyboard alone.
//
// An act (a flag, a tag, an undo) stays in this tab's memory until the server says that it stands: over a lost connection it
// is sent again.

const PATIENCE = 4000;
// Whether somebody is typing somewhere on the page: the desk must not take the keys away.
const typing = () =>
  document.activeElement?.matches("input:not([type=radio], [type=checkbox]), textarea, [contenteditable]") ?? false;

// The key of an event as our tables name it: letters small, digits as such, with Shift as without.
const keyOf = ({ key, code, shiftKey }) =>
  shiftKey && code?.startsWith("Digit") ? code.slice(5) : key.length === 1 ? key.toLowerCase() : key;

// Whose acts these are: the name that stands on the page at this moment; where none can be written there, the server's.
const actor = (known) => document.querySelector(".st-key-name input")?.value.trim() || known;

class Desk {
  constructor(root) {
    this.root = root;
    this.at = 0;
    this.anchor = 0;
    this.chosen = new Set();
    this.tiles = [];
    this.said = new Map(); // sample id -> what this tab said of it
    this.element = make("div", "desk");
    this.element.tabIndex = 0;
    this.element.setAttribute("role", "listbox");
    this.element.setAttribute("aria-multiselectable", "true");
    this.element.setAttribute("aria-label", "Samples");
    this.bar = make("div", "bar");
    this.prompt = make("form", "prompt");
    this.groups = make("div", "groups");
    this.help = make("div", "help");
    this.note = make("div", "note");
    this.note.setAttribute("role", "status");
    this.element.append(this.bar, this.prompt, this.note, this.help, this.groups);
    root.append(this.element);
    this.element.addEventListener("keydown", (event) => this.pressed(event));
    this.prompt.addEventListener("submit", (event) => {
      event.preventDefault();
      this.answer?.(this.prompt.querySelector("input").value.trim());
    });
    this.timer = setInterval(() => this.memory?.pending.length && this.send(), PATIENCE);
  }

  end() {
    clearInterval(this.timer);
  }

  // What the server shows ------------------------------------------------------------------------

  show(component) {
    const first = this.data === undefined;
    this.tell = component;
    this.data = component.data;
    this.memory = memoryOf(this.data.project);
    this.settle();
    if (this.shown !== this.data.shown) {
      this.shown = this.data.shown;
      this.chosen.clear();
      this.at = this.anchor = 0;
    }
    this.element.classList.toggle("plain", this.data.plain);
    this.drawBar();
    this.drawGroups();
    if (first && this.memory.pending.length) this.send();
    if (first && this.data.focus && !typing()) this.element.focus({ preventScroll: true });
  }

  // What the server has answered since, to this desk or to another one of the page.
  settle() {
    for (const [, answer] of this.memory.settle(this.data.answers)) this.say(answer.text, !answer.done);
    for (const [sample, said] of this.said) {
      said.sure = this.memory.done.includes(said.act);
      if (!said.sure && !this.memory.pending.some((act) => act.id === said.act)) this.said.delete(sample);
    }
  }

  send() {
    this.waiting();
    this.tell.setStateValue("acts", { sent: Date.now(), acts: this.memory.pending });
  }

  act(act) {
    const id = this.memory.add({ as: actor(this.data.name), ...act });
    this.send();
    return id;
  }

  waiting() {
    const count = this.memory.pending.length;
    if (count) this.say(`${count} not in the ledger yet: sending …`, false, true);
  }

  say(words, refused = false, waits = false) {
    this.note.textContent = (refused ? "✕ " : waits ? "… " : "✓ ") + words;
    this.note.className = refused ? "note refused" : waits ? "note waits" : "note";
  }

  // Drawing --------------------------------------------------------------------------------------

  drawBar() {
    const { kinds, readOnly, triage, pages } = this.data;
    const buttons = [];
    const button = (label, key, does, off = false) => {
      const found = make("button", "", label);
      found.type = "button";
      found.append(make("kbd", "", key));
      found.disabled = off;
      found.addEventListener("click", () => {
        does();
        this.element.focus({ preventScroll: true });
      });
      buttons.push(found);
    };
    if (!readOnly && triage === "clusters") {
      button("Accept", "a", () => this.accept());
      button("Keep this, reject the others", "k", () => this.keepOne());
      button("Keep all", "d", () => this.keepAll());
    } else if (!readOnly) {
      for (const { kind, key } of kinds) button(kind, key, () => this.flag(kind));
      button("tag", "t", () => this.tag());
    }
    if (!readOnly) button("Undo", "u", () => this.undo(), !this.memory.done.length);
    if (!this.data.plain) button("Open", "⏎", () => this.open());
    if (pages.first) button("First page", "f", () => this.go({ page: "first" }));
    if (pages.next) button("Next page", "n", () => this.go({ page: "next" }));
    button("Keys", "?", () => this.toggleHelp());
    this.count = make("span", "count");
    this.bar.replaceChildren(...buttons, this.count);
  }

  drawGroups() {
    this.tiles = [];
    const groups = this.data.groups.map((group, number) => {
      const section = make("section", "group");
      if (group.title) section.append(make("h4", "", group.title));
      const grid = make("div", `grid ${this.data.density || "usual"}`);
      for (const tile of group.tiles) grid.append(this.addTile(tile, number));
      section.append(grid);
      return section;
    });
    this.groups.replaceChildren(...groups);
    this.at = Math.min(this.at, Math.max(0, this.tiles.length - 1));
    const waits = this.tiles.findIndex((tile) => !this.said.has(tile.id));
    if (this.data.triage && this.said.has(this.tiles[this.at]?.id) && waits >= 0) this.at = this.anchor = waits;
    this.mark();
  }

  addTile(tile, group) {
    const index = this.tiles.length;
    const cell = drawTile(tile, this.said.get(tile.id));
    cell.id = `tile-${index}`;
    cell.addEventListener("click", (event) => this.clicked(index, event));
    cell.addEventListener("dblclick", () => this.open());
    this.tiles.push({ ...tile, cell, group });
    return cell;
  }

  mark() {
    this.tiles.forEach((tile, index) => {
      tile.cell.classList.toggle("at", index === this.at);
      tile.cell.classList.toggle("chosen", this.chosen.has(tile.id));
      tile.cell.setAttribute("aria-selected", String(this.chosen.has(tile.id)));
      tile.cell.parentElement.parentElement.classList.toggle(
        "current",
        this.data.triage === "clusters" && tile.group === this.tiles[this.at]?.group,
      );
    });
    this.element.setAttribute("aria-activedescendant", `tile-${this.at}`);
    this.count.textContent = this.chosen.size ? `${this.chosen.size} selected` : "";
  }

  toggleHelp() {
    if (this.help.childElementCount) return this.help.replaceChildren();
    this.help.replaceChildren(drawHelp(this.data));
  }

  // Moving and selecting -------------------------------------------------------------------------

  columns() {
    const top = this.tiles[0]?.cell.offsetTop;
    const next = this.tiles.findIndex((tile) => tile.cell.offsetTop !== top);
    return next < 1 ? Math.max(1, this.tiles.length) : next;
  }

  move(to, range) {
    if (!this.tiles.length) return;
    this.at = Math.max(0, Math.min(this.tiles.length - 1, to));
    if (range) {
      const [low, high] = [this.anchor, this.at].sort((a, b) => a - b);
      this.chosen = new Set(this.tiles.slice(low, high + 1).map((tile) => tile.id));
    } else {
      this.anchor = this.at;
    }
    this.tiles[this.at].cell.scrollIntoView({ block: "nearest" });
    this.mark();
  }

  // Up and down keep the place on the screen, across groups.
  vertical(step, range) {
    if (this.data.triage === "clusters") return this.toGroup(this.tiles[this.at].group + step);
    this.move(this.at + step * this.columns(), range);
  }

  toGroup(number) {
    const first = this.tiles.findIndex((tile) => tile.group === number);
    if (first >= 0) this.move(first, false);
    return first >= 0;
  }

  clicked(index, event) {
    this.element.focus({ preventScroll: true });
    if (event.ctrlKey || event.metaKey) {
      this.toggle(index);
      this.move(index, false);
    } else {
      this.move(index, event.shiftKey);
    }
  }

  toggle(index) {
    const { id } = this.tiles[index];
    if (!this.chosen.delete(id)) this.chosen.add(id);
    this.mark();
  }

  pressed(event) {
    const typing = event.composedPath()[0] instanceof HTMLInputElement;
    if (event.key === "Escape" && typing) {
      this.ask();
      this.element.focus();
      return;
    }
    if (typing || !this.tiles.length || event.altKey) return;
    if (event.composedPath()[0] instanceof HTMLButtonElement && [" ", "Enter", "Tab"].includes(event.key)) return;
    const chord = event.ctrlKey || event.metaKey;
    const does = chord ? { a: () => this.all() }[event.key] : this.keys(event)[keyOf(event)];
    if (!does) return;
    if (does() === false) return;
    event.preventDefault();
    event.stopPropagation();
  }

  keys({ shiftKey }) {
    const { readOnly, triage } = this.data;
    const found = {
      ArrowRight: () => this.move(this.at + 1, shiftKey),
      ArrowLeft: () => this.move(this.at - 1, shiftKey),
      ArrowDown: () => this.vertical(1, shiftKey),
      ArrowUp: () => this.vertical(-1, shiftKey),
      Home: () => this.move(0, shiftKey),
      End: () => this.move(this.tiles.length - 1, shiftKey),
      " ": () => this.toggle(this.at),
      Escape: () => this.none(),
      Enter: () => this.open(),
      s: () => this.go({ like: this.tiles[this.at].id }),
      n: () => this.go({ page: "next" }),
      f: () => this.go({ page: "first" }),
      "?": () => this.toggleHelp(),
    };
    if (triage === "clusters") found.Tab = () => this.toGroup(this.tiles[this.at].group + (shiftKey ? -1 : 1));
    if (readOnly) return found;
    found.u = () => this.undo();
    if (triage === "clusters") {
      return { ...found, a: () => this.accept(), k: () => this.keepOne(), d: () => this.keepAll() };
    }
    for (const { kind, key } of this.data.kinds) found[key] = () => (shiftKey ? this.unflag(kind) : this.flag(kind));
    found.t = () => this.tag();
    return found;
  }

  all() {
    this.chosen = new Set(this.tiles.map((tile) => tile.id));
    this.mark();
  }

  none() {
    this.chosen.clear();
    this.mark();
  }

  open() {
    if (this.tiles[this.at]) this.go({ open: this.tiles[this.at].id });
  }

  go(where) {
    if (where.page && !this.data.pages[where.page]) return;
    this.tell.setTriggerValue("go", where);
  }

  // Acts -----------------------------------------------------------------------------------------

  meant() {
    return this.chosen.size ? [...this.chosen] : this.tiles[this.at] ? [this.tiles[this.at].id] : [];
  }

  flag(kind) {
    const samples = this.meant();
    const { needsReason } = this.data.kinds.find((known) => known.kind === kind);
    const stand = (reason) => this.stand({ do: "flag", kind, samples, reason }, samples, kind);
    if (!needsReason) return stand("");
    this.ask(`${kind} ${samples.length}: why?`, this.memory.reason, (reason) => {
      this.memory.reason = reason;
      stand(reason);
    });
  }

  unflag(kind) {
    const samples = this.meant();
    this.stand({ do: "unflag", kind, samples }, samples, `no ${kind}`);
  }

  tag() {
    const samples = this.meant();
    this.ask(`Tag ${samples.length} with`, "", (tag) => this.stand({ do: "tag", tag, samples }, samples, tag));
  }

  stand(act, samples, word) {
    const id = this.act(act);
    for (const sample of samples) this.said.set(sample, { act: id, word, sure: false });
    const alone = !this.chosen.size;
    this.chosen.clear();
    if (alone) this.move(this.at + 1, false);
    this.drawGroups();
  }

  undo() {
    const of = this.memory.newest();
    if (of) this.act({ do: "undo", of });
    else this.say("Nothing that this tab did is left to undo.", true);
  }

  // The cluster one is at: its members, and the one that is proposed.
  cluster() {
    const here = this.tiles[this.at];
    const members = this.tiles.filter((tile) => tile.group === here?.group);
    return { members, proposed: members.find((tile) => tile.keeper) ?? members[0], here };
  }

  accept() {
    this.settleCluster(this.cluster().proposed);
  }

  keepOne() {
    this.settleCluster(this.cluster().here);
  }

  settleCluster(keeper) {
    const { members } = this.cluster();
    if (!keeper || this.said.has(keeper.id)) return this.onward();
    const reject = members.filter((tile) => tile !== keeper).map((tile) => tile.id);
    this.decide([keeper.id], reject, `near-duplicate of ${keeper.id.slice(0, 12)}`);
  }

  keepAll() {
    const { members } = this.cluster();
    if (!members.length || this.said.has(members[0].id)) return this.onward();
    this.decide(members.map((tile) => tile.id), [], "no near-duplicates of each other");
  }

  decide(keep, reject, reason) {
    const id = this.act({ do: "decide", keep, reject, reason });
    for (const sample of keep) this.said.set(sample, { act: id, word: "keep", sure: false });
    for (const sample of reject) this.said.set(sample, { act: id, word: "reject", sure: false });
    this.onward();
    this.drawGroups();
  }

  onward() {
    const next = this.tiles.findIndex((tile, index) => index > this.at && !this.said.has(tile.id));
    if (next >= 0) this.move(next, false);
    else if (!this.memory.pending.length) this.go({ page: "next" });
  }

  ask(label, value, then) {
    if (!label) {
      this.answer = undefined;
      return this.prompt.replaceChildren();
    }
    const name = make("label", "", label);
    const input = make("input");
    input.value = value;
    input.maxLength = 1000;
    input.setAttribute("aria-label", label);
    name.append(input);
    this.prompt.replaceChildren(name, make("span", "hint", "Enter says so, Esc leaves it"));
    this.answer = (words) => {
      if (!words) return;
      this.ask();
      this.element.focus({ preventScroll: true });
      then(words);
    };
    input.focus();
    input.select();
  }
}

export default mounted(Desk);
