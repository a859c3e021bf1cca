// The playhead: moves over the score while the recording plays, and a click on the score seeks.
const audio = document.querySelector("audio");
const scores = [...document.querySelectorAll(".score")];
if (audio && scores.length) {
  const place = () => {
    const now = audio.currentTime * 1000;
    for (const score of scores) {
      const begin = Number(score.dataset.begin), length = Number(score.dataset.length);
      const head = score.querySelector(".head");
      const inside = now >= begin && now < begin + length;
      head.style.visibility = inside && (now > 0) ? "visible" : "hidden";
      const left = Number(score.dataset.left), width = Number(score.dataset.width);
      const x = left + (now - begin) / length * width;
      head.setAttribute("x1", x); head.setAttribute("x2", x);
    }
    if (!audio.paused) requestAnimationFrame(place);
  };
  audio.addEventListener("play", place);
  audio.addEventListener("seeked", place);
  for (const score of scores) {
    score.style.cursor = "pointer";
    score.addEventListener("click", (event) => {
      const box = score.getBoundingClientRect(), view = score.viewBox.baseVal.width;
      const x = (event.clientX - box.left) / box.width * view - Number(score.dataset.left);
      const part = Math.max(0, Math.min(1, x / Number(score.dataset.width)));
      audio.currentTime = (Number(score.dataset.begin) + part * Number(score.dataset.length)) / 1000;
      audio.play();
    });
  }
}
