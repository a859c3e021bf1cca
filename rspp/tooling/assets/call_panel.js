// The panel with the evidence behind an element, the overview, the keys, and the list of all records.
const panel = document.getElementById("panel");
const PAGE = 100;
let chosen = null, cameFrom = null;

function headline(entry) {
  const record = entry.record, inner = record.event || record.decision || {};
  const said = inner.signal || inner.outcome_kind || record.name || record.party || record.edge || "";
  const more = inner.reason || record.reason || record.state || record.outcome || (record.to ? `${record.from} → ${record.to}` : "");
  return [String(record.kind || "record"), String(said), typeof more === "string" ? more : ""].filter(Boolean).join(" · ");
}

function evidence(entry, open) {
  const box = html("details", open ? { open: "" } : {});
  const summary = html("summary", {});
  summary.append(html("span", { class: "at" }, timeText(entry.at_us)), html("span", {}, headline(entry)), html("span", { class: "soft" }, "#" + entry.index));
  box.append(summary);
  const fill = () => {
    if (box.childElementCount > 1) return;
    const record = entry.record, inner = record.event || record.decision || {};
    const facts = html("dl", { class: "facts" });
    const known = [["turn", entry.turn], ["plan hash", record.plan_hash], ["sequence", inner.runtime_sequence], ["event", inner.event_id], ["decided by", inner.emitted_by], ["phase", inner.phase], ["epoch", inner.authority_epoch ?? record.authority_epoch ?? record.epoch]];
    for (const [name, value] of known) {
      if (value === undefined || value === "" || value === null) continue;
      const row = html("div", {});
      row.append(html("dt", {}, name), html("dd", {}, String(value)));
      facts.append(row);
    }
    box.append(facts, html("pre", { tabindex: "0" }, JSON.stringify(record, null, 2)));
  };
  if (open) fill();
  box.addEventListener("toggle", fill);
  return box;
}

function listed(target, entries, openFirst) {
  let shown = 0;
  const more = html("button", { type: "button", class: "more" });
  const next = () => {
    for (const entry of entries.slice(shown, shown + PAGE)) more.before(evidence(entry, openFirst && shown === 0 && entries.length <= 3));
    shown = Math.min(entries.length, shown + PAGE);
    more.textContent = `${entries.length - shown} more`;
    more.hidden = shown >= entries.length;
  };
  target.append(more);
  more.addEventListener("click", next);
  next();
}

function markChosen() {
  for (const group of picture.querySelectorAll(".item")) {
    const item = group.item, begin = item.begin_us ?? item.at_us;
    group.classList.toggle("chosen", chosen !== null && item.row === chosen.row && begin === (chosen.begin_us ?? chosen.at_us) && item.name === chosen.name);
  }
}

function openPanel(item, from) {
  chosen = item;
  cameFrom = from || null;
  const body = panel.querySelector(".body");
  panel.querySelector("h2").textContent = item.name;
  body.replaceChildren();
  const facts = html("dl", { class: "facts" });
  const turn = data.turns.find((one) => one.key === item.turn);
  const rows = item.end_us === undefined ? [["at", timeText(item.at_us)]] : [["from", timeText(item.begin_us)], ["to", timeText(item.end_us)], ["took", lengthText(item.end_us - item.begin_us)]];
  if (turn) rows.push(["turn", turn.key], ["outcome", turn.ending], ["plan hash", turn.plan_hash || "not recorded"]);
  for (const [name, value] of rows) {
    const row = html("div", {});
    row.append(html("dt", {}, name), html("dd", {}, value));
    facts.append(row);
  }
  body.append(facts);
  const places = [...new Set([...(item.records || []), ...(item.more || []).flatMap((one) => one.records)])].sort((a, b) => a - b);
  const entries = places.map((place) => data.records[place]).filter(Boolean);
  body.append(html("h3", {}, entries.length ? `Evidence: ${entries.length} record${entries.length === 1 ? "" : "s"}` : "No record of its own in this page"));
  listed(body, entries, true);
  panel.hidden = false;
  panel.querySelector(".close").focus({ preventScroll: true });
  markChosen();
}

function closePanel() {
  if (panel.hidden) return;
  panel.hidden = true;
  const back = chosen;
  chosen = null;
  markChosen();
  const again = back && [...picture.querySelectorAll(".item")].find((group) => group.dataset.row === back.row && Number(group.dataset.begin) === (back.begin_us ?? back.at_us));
  (cameFrom?.isConnected ? cameFrom : again || picture).focus({ preventScroll: true });
}

function showTurn(key, from) {
  const turn = data.turns.find((one) => one.key === key);
  if (!turn) return;
  axis.reveal(turn.speech_end_us ?? turn.begin_us, turn.end_us);
  openPanel(byRow.get("turns").spans.find((span) => span.turn === key), from);
}

panel.querySelector(".close").addEventListener("click", closePanel);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") closePanel(); });
picture.addEventListener("click", (event) => {
  const group = event.target.closest(".item");
  if (group) openPanel(group.item, null);
});

picture.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const here = document.activeElement?.closest?.(".item");
  const rows = [...picture.querySelectorAll(".row")].map((row) => [...row.querySelectorAll(".item")].sort((a, b) => a.dataset.begin - b.dataset.begin)).filter((row) => row.length);
  const at = rows.findIndex((row) => row.includes(here));
  const go = (target) => target?.focus({ preventScroll: true });
  const actions = {
    "+": () => axis.zoom(0.6), "=": () => axis.zoom(0.6), "-": () => axis.zoom(1 / 0.6), "0": () => axis.show(0, FULL_US),
    PageUp: () => axis.move(-0.7), PageDown: () => axis.move(0.7), Home: () => axis.show(0, axis.to - axis.from),
    End: () => axis.show(FULL_US - (axis.to - axis.from), FULL_US),
    Enter: () => here && openPanel(here.item, null), " ": () => here && openPanel(here.item, null),
    ArrowRight: () => side(1), ArrowLeft: () => side(-1), ArrowDown: () => line(1), ArrowUp: () => line(-1),
  };
  const side = (by) => {
    if (at < 0) return go(rows[0]?.[0]);
    const next = rows[at][rows[at].indexOf(here) + by];
    return next ? go(next) : axis.move(0.5 * by);
  };
  const line = (by) => {
    const row = rows[Math.max(0, Math.min(rows.length - 1, at + by))];
    if (at < 0 || !row) return go(rows[0]?.[0]);
    const begin = Number(here.dataset.begin);
    return go(row.reduce((best, one) => Math.abs(one.dataset.begin - begin) < Math.abs(best.dataset.begin - begin) ? one : best));
  };
  if (!(event.key in actions)) return;
  event.preventDefault();
  actions[event.key]();
});

// The overview: the whole call in a strip, with the part that is in view.
const overview = document.querySelector(".timeline svg.overview");
function drawOverview() {
  const width = overview.parentElement.clientWidth, x = (us) => us / FULL_US * width;
  const parts = document.createDocumentFragment();
  for (const row of ["caller", "agent"])
    for (const span of byRow.get(row).spans)
      parts.append(svg("rect", { class: "item " + span.style, x: x(span.begin_us), y: row === "caller" ? 4 : 15, width: Math.max(1, x(span.end_us) - x(span.begin_us)), height: 9 }));
  for (const turn of data.turns)
    if (turn.outcome === "abort") parts.append(svg("rect", { class: "item bad", x: x(turn.end_us) - 1, y: 2, width: 2, height: 24 }));
  parts.append(svg("rect", { class: "view", x: x(axis.from), y: 1, width: Math.max(4, x(axis.to) - x(axis.from)), height: 26, rx: 3 }));
  overview.setAttribute("width", width);
  overview.replaceChildren(parts);
}
overview.addEventListener("pointerdown", (event) => {
  const follow = (move) => {
    const box = overview.getBoundingClientRect(), length = axis.to - axis.from;
    const middle = (move.clientX - box.left) / box.width * FULL_US;
    axis.show(middle - length / 2, middle + length / 2);
  };
  follow(event);
  overview.setPointerCapture(event.pointerId);
  overview.addEventListener("pointermove", follow);
  overview.addEventListener("pointerup", () => overview.removeEventListener("pointermove", follow), { once: true });
});

for (const button of document.querySelectorAll("[data-zoom]"))
  button.addEventListener("click", () => button.dataset.zoom === "all" ? axis.show(0, FULL_US) : button.dataset.zoom.startsWith("move") ? axis.move(Number(button.dataset.zoom.slice(4))) : axis.zoom(Number(button.dataset.zoom)));
for (const button of document.querySelectorAll("[data-show]"))
  button.addEventListener("click", () => showTurn(button.dataset.show, button));

const filter = document.getElementById("filter");
for (const name of new Set(data.turns.map((turn) => turn.ending))) filter?.append(html("option", { value: name }, name));
filter?.addEventListener("change", () => {
  for (const card of document.querySelectorAll("article.turn")) card.hidden = filter.value !== "" && card.dataset.ending !== filter.value;
});

const search = document.getElementById("search"), found = document.getElementById("found");
let lower = null, pending = 0;
function look() {
  const wanted = search.value.trim().toLowerCase();
  found.replaceChildren();
  if (!wanted) return;
  lower ??= data.records.map((entry) => JSON.stringify(entry.record).toLowerCase());
  const hits = data.records.filter((entry, place) => lower[place].includes(wanted) || String(entry.index) === wanted.replace("#", ""));
  found.append(html("p", { class: "soft", role: "status" }, hits.length + " of " + data.records.length + " records"));
  listed(found, hits, true);
}
search.addEventListener("input", () => { clearTimeout(pending); pending = setTimeout(look, 120); });

axis.listeners.push(() => { draw(); drawOverview(); });
steer(picture);
new ResizeObserver(() => { draw(); drawOverview(); }).observe(picture.parentElement);
if (data.duration_us > 120e6) axis.show(0, 60e6); else axis.show(0, FULL_US);
const wanted = decodeURIComponent(location.hash.slice(1));
if (wanted) showTurn(wanted, null);
