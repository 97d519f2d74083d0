// How the desk draws a thumbnail and the list of its keys. Words from data only ever become textContent.

const SHAPES = { gold: "●", held: "■", pending: "○" };

// `said` is what this tab said of the sample, if anything: its word, and whether it is sure to be in the ledger.
const drawTile = (tile, said) => {
  const cell = make("figure", "tile");
  cell.dataset.sample = tile.id;
  cell.setAttribute("role", "option");
  cell.setAttribute("aria-label", `sample ${tile.id.slice(0, 8)} ${tile.verdict}`);
  if (tile.image) {
    const picture = make("img");
    picture.src = `data:image/jpeg;base64,${tile.image}`;
    picture.alt = "";
    picture.draggable = false;
    cell.append(picture);
  } else {
    cell.append(make("div", "none", "✕ no picture"));
  }
  const caption = make("figcaption");
  if (tile.verdict) caption.append(make("span", `badge ${tile.verdict}`, `${SHAPES[tile.verdict] ?? ""} ${tile.verdict}`));
  if (tile.mark) caption.append(make("span", "mark", tile.mark));
  if (tile.score) caption.append(make("span", "score", tile.score));
  for (const flag of tile.flags) caption.append(make("span", "flag", `⚑ ${flag}`));
  if (said && !(said.sure && tile.flags.includes(said.word))) {
    caption.append(make("span", said.sure ? "said" : "said waits", `${said.sure ? "✓" : "…"} ${said.word}`));
  }
  caption.append(make("div", "line", tile.line));
  cell.append(caption);
  return cell;
};

const drawHelp = ({ kinds, readOnly, triage }) => {
  const rows = [
    ["← → ↑ ↓", "move"],
    ["Shift + arrows", "select a range"],
    ["Space", "select or not"],
    ["Ctrl + A", "select the page"],
    ["Esc", "select nothing"],
    ["Enter", "open"],
    ["s", "the most similar to it"],
    ["n, f", "next page, first page"],
  ];
  if (!readOnly && triage === "clusters") {
    rows.push(["a", "accept: keep the one that is marked, reject the others"]);
    rows.push(["k", "keep this one, reject the others"], ["d", "no duplicates: keep all"]);
    rows.push(["Tab, Shift + Tab", "next, previous cluster"]);
  } else if (!readOnly) {
    for (const { kind, key } of kinds) rows.push([key, `flag ${kind}`]);
    rows.push(["Shift + the key of a flag", "take that flag off, whoever gave it"]);
    rows.push(["t", "tag"]);
  }
  if (!readOnly) rows.push(["u", "undo the last act"]);
  const table = make("table");
  for (const [keys, words] of rows) {
    const row = make("tr");
    row.append(make("th", "", keys), make("td", "", words));
    table.append(row);
  }
  return table;
};
