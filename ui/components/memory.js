// What this tab asked for and has no answer to yet. It outlives a reload; an act's id keeps it from standing twice.

const MEMORY = "refinery-desk";

const freshId = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (n) => n.toString(16).padStart(2, "0")).join("");

class Memory {
  constructor(project) {
    this.key = `${MEMORY}:${project}`;
    let found = {};
    try {
      found = JSON.parse(sessionStorage.getItem(this.key)) ?? {};
    } catch {
      found = {};
    }
    this.pending = found.pending ?? []; // acts that are not in the ledger, as far as this tab knows
    this.done = found.done ?? []; // ids of acts that are, the oldest first
    this.reason = found.reason ?? ""; // the last one that was given
  }

  save() {
    this.done = this.done.slice(-200);
    const { pending, done, reason } = this;
    sessionStorage.setItem(this.key, JSON.stringify({ pending, done, reason }));
  }

  add(act) {
    const whole = { id: freshId(), ...act };
    this.pending.push(whole);
    this.save();
    return whole.id;
  }

  // Take the server's answers: each act that has one is pending no longer. Gives [act, answer] of these.
  settle(answers) {
    const heard = this.pending.filter((act) => answers[act.id]).map((act) => [act, answers[act.id]]);
    for (const [act, answer] of heard) {
      this.pending = this.pending.filter((other) => other.id !== act.id);
      if (!answer.done) continue;
      if (act.do === "undo") this.done = this.done.filter((id) => id !== act.of);
      else this.done.push(act.id);
    }
    this.save();
    return heard;
  }

  // The newest act of this tab that no undo was asked for; undefined when there is none.
  newest() {
    const waits = new Set(this.pending.filter((act) => act.do === "undo").map((act) => act.of));
    return this.done.filter((id) => !waits.has(id)).at(-1);
  }
}

// All desks of a page share what their project remembers.
const memoryOf = (project) => {
  const known = (globalThis[Symbol.for(MEMORY)] ??= new Map());
  if (!known.has(project)) known.set(project, new Memory(project));
  return known.get(project);
};
