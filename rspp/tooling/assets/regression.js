"use strict";
// Filters the recordings of a regression run and opens all of their divergences at once.
const filter = document.getElementById("filter");
const fixtures = [...document.querySelectorAll(".fixture")];
function narrow() {
  for (const fixture of fixtures)
    fixture.hidden = filter.value === "diverged" ? fixture.dataset.diverged === "0" : filter.value !== "" && fixture.dataset.status !== filter.value;
}
filter?.addEventListener("change", narrow);
document.getElementById("open")?.addEventListener("click", () => {
  const open = fixtures.some((fixture) => !fixture.hidden && !fixture.open);
  for (const fixture of fixtures) if (!fixture.hidden) fixture.open = open;
});
