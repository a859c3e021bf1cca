"use strict";
// The time axis of a call: what is in view, how it is zoomed and moved, and how times are written.
const data = JSON.parse(document.getElementById("data").textContent);
const svgSpace = document.querySelector(".timeline svg").namespaceURI;
const MIN_VIEW_US = 10_000;
const FULL_US = Math.max(data.duration_us, 100_000) * 1.01;

function svg(name, attributes, text) {
  const made = document.createElementNS(svgSpace, name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  if (text !== undefined) made.textContent = text;
  return made;
}

function html(name, attributes, text) {
  const made = document.createElement(name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  if (text !== undefined) made.textContent = text;
  return made;
}

function timeText(us, digits = 3) {
  const unit = 10 ** digits, whole = Math.round(us / 1e6 * unit);
  const seconds = Math.floor(whole / unit), rest = whole % unit;
  const tail = digits ? "." + String(rest).padStart(digits, "0") : "";
  const two = (value) => String(value).padStart(2, "0");
  const head = seconds >= 3600 ? Math.floor(seconds / 3600) + ":" + two(Math.floor(seconds / 60) % 60)
    : String(Math.floor(seconds / 60));
  return head + ":" + two(seconds % 60) + tail;
}

function lengthText(us) {
  if (us < 1000) return us + " µs";
  return us < 10e6 ? (us / 1000).toFixed(us < 10_000 ? 1 : 0) + " ms" : (us / 1e6).toFixed(1) + " s";
}

const STEPS_MS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 18e5, 36e5];

const axis = {
  from: 0,
  to: FULL_US,
  left: 116,
  width: 800,
  listeners: [],
  x(us) { return this.left + (us - this.from) / (this.to - this.from) * this.width; },
  at(x) { return this.from + (x - this.left) / this.width * (this.to - this.from); },
  show(from, to) {
    const length = Math.min(FULL_US, Math.max(MIN_VIEW_US, to - from));
    this.from = Math.max(0, Math.min(from, FULL_US - length));
    this.to = this.from + length;
    for (const listener of this.listeners) listener();
  },
  zoom(factor, around = (this.from + this.to) / 2) {
    this.show(around - (around - this.from) * factor, around + (this.to - around) * factor);
  },
  move(share) {
    const by = (this.to - this.from) * share;
    this.show(this.from + by, this.to + by);
  },
  reveal(from, to) {
    const room = Math.max((to - from) * 0.15, 200_000);
    this.show(from - room, to + room);
  },
  step() {
    const wanted = (this.to - this.from) / 1000 / Math.max(2, this.width / 90);
    return (STEPS_MS.find((step) => step >= wanted) || STEPS_MS.at(-1)) * 1000;
  },
};

// Dragging moves, two fingers or the wheel with Ctrl zoom; a wheel alone scrolls the page as everywhere.
function steer(surface) {
  const fingers = new Map();
  let moved = 0;
  const place = (event) => event.clientX - surface.getBoundingClientRect().left;
  surface.addEventListener("wheel", (event) => {
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      axis.zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) / 150), axis.at(place(event)));
    } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      axis.move(event.deltaX / axis.width);
    }
  }, { passive: false });
  surface.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, place(event));
    moved = 0;
  });
  window.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    const before = fingers.get(event.pointerId), now = place(event);
    if (fingers.size === 1) {
      moved += Math.abs(now - before);
      if (moved > 4) axis.move((before - now) / axis.width);
    } else {
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
      const ratio = Math.abs(before - other) / Math.max(1, Math.abs(now - other));
      axis.zoom(Math.max(0.5, Math.min(2, ratio)), axis.at((now + other) / 2));
      moved = 10;
    }
    fingers.set(event.pointerId, now);
  });
  for (const end of ["pointerup", "pointercancel"])
    window.addEventListener(end, (event) => fingers.delete(event.pointerId));
  // What was a drag is no click on the element that it happened to end on.
  surface.addEventListener("click", (event) => {
    if (moved > 4) event.stopPropagation();
    moved = 0;
  }, { capture: true });
}
