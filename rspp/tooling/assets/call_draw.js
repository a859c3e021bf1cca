// Draws the part of the call that is in view: one row for each lane, party and edge.
const HEIGHTS = { caller: 46, agent: 24, turns: 30, holds: 24, control: 24, data: 46, telemetry: 22, authority: 24, missing: 24 };
const EDGE_HEIGHT = 38, RULER = 22, CELL = 12;

const byRow = new Map(data.rows.map((row) => [row.id, { marks: [], spans: [] }]));
for (const mark of data.marks) byRow.get(mark.row)?.marks.push(mark);
for (const span of data.spans) byRow.get(span.row)?.spans.push(span);
for (const turn of data.turns) {
  const states = turn.states, last = states.length ? states.at(-1)[1] : turn.proposed_us ?? 0;
  const begin = turn.proposed_us ?? (states.length ? states[0][1] : 0);
  const stint = data.stints.filter((part) => part.epoch === turn.epoch).at(-1);
  turn.begin_us = begin;
  turn.end_us = Math.max(begin, turn.closed_us ?? (stint ? stint.end_us : last));
  byRow.get("turns").spans.push({
    row: "turns", begin_us: begin, end_us: turn.end_us, turn: turn.key, records: turn.records,
    name: "turn " + turn.number + (data.stints.length > 1 ? " of epoch " + turn.epoch : "") + ": " + turn.ending,
    label: String(turn.number),
    style: turn.outcome === "commit" ? "good" : turn.outcome ? "bad" : "plain",
  });
}
for (const row of byRow.values()) {
  row.marks.sort((a, b) => a.at_us - b.at_us);
  row.spans.sort((a, b) => a.begin_us - b.begin_us);
  packed(row.spans);
}

// Spans of one row that overlap lie under each other, in at most three tracks.
function packed(spans) {
  const ends = [-1, -1, -1];
  for (const span of spans) {
    let track = ends.findIndex((end) => end <= span.begin_us);
    if (track < 0) track = ends.indexOf(Math.min(...ends));
    span.track = track;
    ends[track] = Math.max(ends[track], span.end_us);
  }
}

function firstAfter(list, key, us) {
  let low = 0, high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle][key] < us) low = middle + 1; else high = middle;
  }
  return low;
}

function spanText(span) {
  return span.name + ", " + timeText(span.begin_us) + " to " + timeText(span.end_us) + ", "
    + lengthText(span.end_us - span.begin_us);
}

function element(parent, item, name, row, begin) {
  const group = svg("g", { class: "item " + item.style, tabindex: "-1", role: "button", "aria-label": name });
  group.append(svg("title", {}, name));
  group.item = item;
  group.dataset.row = row;
  group.dataset.begin = begin;
  parent.append(group);
  return group;
}

function drawSpans(parent, row, top, height) {
  const tracks = row === "data" ? 3 : 1, lift = row === "data" ? 15 : 3;
  const tall = (height - lift - 4) / tracks;
  let lastX = [-9, -9, -9], lastGroup = [null, null, null];
  for (const span of byRow.get(row).spans) {
    if (span.begin_us > axis.to) break;
    if (span.end_us < axis.from) continue;
    const first = Math.max(axis.left, axis.x(span.begin_us));
    const last = Math.min(axis.left + axis.width, axis.x(span.end_us));
    const track = tracks > 1 ? span.track : 0;
    const width = Math.max(2, last - first);
    // Where many would lie on one another the first stands for them; zooming in parts them.
    if (width <= 2 && first - lastX[track] < 2) {
      const stands = lastGroup[track];
      stands?.item.more?.push(span);
      if (stands && span.end_us - span.begin_us > stands.item.end_us - stands.item.begin_us) stands.setAttribute("class", "item " + span.style);
      continue;
    }
    const item = { ...span, more: [] };
    const group = element(parent, item, spanText(span), row, span.begin_us);
    group.append(svg("rect", { x: first, y: top + lift + track * tall, width, height: tall - 1, rx: 2.5 }));
    const label = span.label || "";
    if (label && width > 8 + 7 * label.length)
      group.append(svg("text", { x: first + 5, y: top + height / 2 + 4 }, label));
    lastX[track] = last;
    lastGroup[track] = group;
  }
}

function drawMarks(parent, row, top, height) {
  const marks = byRow.get(row).marks;
  const middle = row === "data" ? top + 8 : top + height / 2;
  let index = Math.max(0, firstAfter(marks, "at_us", axis.from));
  while (index < marks.length && marks[index].at_us <= axis.to) {
    const x = axis.x(marks[index].at_us), group = [];
    while (index < marks.length && axis.x(marks[index].at_us) - x < CELL) group.push(marks[index++]);
    const bad = group.find((mark) => mark.style === "bad");
    const names = [...new Set(group.map((mark) => mark.name))];
    const first = group[0];
    const name = group.length === 1 ? first.name + ", " + timeText(first.at_us)
      : group.length + " at " + timeText(first.at_us) + ": " + names.slice(0, 6).join(", ") + (names.length > 6 ? ", …" : "");
    const item = group.length === 1 ? first : {
      row, at_us: first.at_us, style: bad ? "bad" : first.style, turn: first.turn, name: names.length === 1 ? names[0] : group.length + " together",
      records: group.flatMap((mark) => mark.records), marks: group,
    };
    const made = element(parent, item, name, row, first.at_us);
    made.classList.add("point");
    if (group.length === 1) made.append(svg("path", { d: `M${x} ${middle - 6}l5 6l-5 6l-5-6z` }));
    else {
      const width = Math.max(10, axis.x(group.at(-1).at_us) - x + 8);
      made.append(svg("rect", { x: x - 5, y: middle - 6, width, height: 12, rx: 6 }));
      if (width > 7 + 7 * String(group.length).length) made.append(svg("text", { x: x - 5 + width / 2, y: middle + 3.5, "text-anchor": "middle" }, group.length));
    }
  }
}

// The caller's voice as the detector heard it: the loudest column of each pixel.
function drawVoice(parent, top, height) {
  const { step_us: step, permille } = data.voice;
  const from = Math.max(0, Math.floor(axis.from / step)), to = Math.min(permille.length, Math.ceil(axis.to / step));
  const columns = new Map();
  for (let i = from; i < to; i++) {
    const x = Math.round(axis.x(i * step));
    columns.set(x, Math.max(columns.get(x) || 0, permille[i]));
  }
  const wide = Math.max(1, step / (axis.to - axis.from) * axis.width);
  let path = "";
  for (const [x, value] of columns) {
    const tall = value / 1000 * (height - 12);
    const left = Math.max(axis.left, x), width = Math.min(x + wide, axis.left + axis.width) - left;
    if (tall > 0.5 && width > 0) path += `M${left} ${top + height - 4}h${width.toFixed(1)}v${-tall.toFixed(1)}h${-width.toFixed(1)}z`;
  }
  parent.append(svg("path", { class: "voice", d: path }));
}

function drawFrames(parent, top, height) {
  for (const run of data.frames) {
    if (run.end_us < axis.from || run.begin_us > axis.to) continue;
    const first = Math.max(axis.left, axis.x(run.begin_us));
    const width = Math.max(1, Math.min(axis.left + axis.width, axis.x(run.end_us + 20_000)) - first);
    parent.append(svg("rect", { class: run.verdict === "pass" ? "passed" : "refused", x: first, y: top + height - 4, width, height: 3 }));
  }
}

function drawEdge(parent, edge, top, height) {
  const most = Math.max(1, ...edge.depth.map(([, queued]) => queued));
  const y = (queued) => top + height - 3 - queued / most * (height - 16);
  let path = "", last = null;
  for (let i = 0; i < edge.depth.length; i++) {
    const [at, queued] = edge.depth[i], next = edge.depth[i + 1];
    if (next && next[0] < axis.from) continue;
    if (at > axis.to) break;
    const x = Math.max(axis.left, axis.x(at));
    path += last === null ? `M${x.toFixed(1)} ${top + height - 3}V${y(queued).toFixed(1)}` : `H${x.toFixed(1)}V${y(queued).toFixed(1)}`;
    last = x;
  }
  if (last !== null) {
    const end = Math.min(axis.left + axis.width, axis.x(data.duration_us));
    parent.append(svg("path", { class: "depth", d: path + `H${Math.max(last, end).toFixed(1)}V${top + height - 3}z` }));
  }
  const told = `at most ${most} ms waiting` + (edge.stops ? `, told ${edge.stops} times to wait` : "") + (edge.drops || edge.shed ? `, ${Math.max(edge.drops, edge.shed)} shed` : "");
  parent.append(svg("text", { class: "note", x: axis.left + axis.width - 4, y: top + 10, "text-anchor": "end" }, told));
}

const picture = document.querySelector(".timeline svg.lanes");
function draw() {
  const box = picture.parentElement.clientWidth;
  const narrow = box < 620;
  axis.left = narrow ? 6 : 122;
  axis.width = Math.max(200, box - axis.left - 8);
  const kept = document.activeElement?.item;
  const parts = document.createDocumentFragment();
  let y = RULER;
  const rows = [];
  for (const row of data.rows) {
    const edge = row.id.startsWith("edge:");
    const height = (edge ? EDGE_HEIGHT : HEIGHTS[row.id]) + (narrow ? 13 : 0);
    rows.push({ ...row, edge, top: y + (narrow ? 13 : 0), height: height - (narrow ? 13 : 0) });
    y += height;
  }
  const step = axis.step(), digits = step >= 1e6 ? 0 : step >= 1e5 ? 1 : step >= 1e4 ? 2 : 3;
  for (let at = Math.ceil(axis.from / step) * step; at <= axis.to; at += step) {
    const x = axis.x(at);
    parts.append(svg("line", { class: "tick", x1: x, x2: x, y1: RULER - 4, y2: y }));
    if (x < axis.left + axis.width - 30) parts.append(svg("text", { class: "time", x: x + 3, y: 13 }, timeText(at, digits)));
  }
  for (const row of rows) {
    const group = svg("g", { class: "row", role: "group", "aria-label": row.title });
    group.append(svg("line", { class: "under", x1: 0, x2: box, y1: row.top + row.height, y2: row.top + row.height }));
    const label = row.title.length > 19 ? row.title.slice(0, 18) + "…" : row.title;
    const where = narrow ? { x: axis.left, y: row.top - 2 } : { x: 0, y: row.top + row.height / 2 + 4 };
    const text = svg("text", { class: "lane", ...where }, label);
    text.append(svg("title", {}, row.title));
    group.append(text);
    if (row.id === "caller") drawVoice(group, row.top, row.height);
    if (row.edge) drawEdge(group, data.edges.find((edge) => "edge:" + edge.name === row.id) || { depth: [] }, row.top, row.height);
    drawSpans(group, row.id, row.top, row.height);
    if (row.id === "agent") drawFrames(group, row.top, row.height);
    drawMarks(group, row.id, row.top, row.height);
    parts.append(group);
  }
  for (const mark of [...byRow.get("authority").marks, ...(byRow.get("missing")?.marks || [])])
    if ((mark.name === "takeover" || mark.row === "missing") && mark.at_us >= axis.from && mark.at_us <= axis.to)
      parts.append(svg("line", { class: "broken", x1: axis.x(mark.at_us), x2: axis.x(mark.at_us), y1: RULER, y2: y }));
  picture.setAttribute("height", y + 2);
  picture.setAttribute("width", box);
  picture.replaceChildren(parts);
  if (kept) {
    const again = [...picture.querySelectorAll(".item")].find((group) => group.dataset.row === kept.row && Number(group.dataset.begin) === (kept.begin_us ?? kept.at_us));
    again?.focus({ preventScroll: true });
  }
  markChosen();
}
