// The pulse: what lives on the page is asked again every 3 s while somebody can see it.
const EVERY = 3000;
const body = document.body;
const banner = document.getElementById("offline");
const favicon = document.querySelector('link[rel="icon"]');
let answered = new Date();
let misses = 0;

const tick = () => document.hidden || body.dispatchEvent(new CustomEvent("cortex:tick"));

function heard() {
  answered = new Date();
  misses = 0;
  banner.hidden = true;
}

function missed() {
  misses += 1;
  if (misses < 2) return;
  document.getElementById("offline-since").textContent = answered.toLocaleTimeString();
  banner.hidden = false;
}

function retitle() {
  const live = document.getElementById("live");
  if (live?.dataset.title) document.title = `${live.dataset.title} · Cortex`;
  if (live) favicon.href = favicon.href.replace(/favicon(-failing)?\.svg/, Number(live.dataset.failing) ? "favicon-failing.svg" : "favicon.svg");
}

setInterval(tick, EVERY);
document.addEventListener("visibilitychange", tick);
body.addEventListener("cortex:done", tick);
body.addEventListener("htmx:after:request", (event) => (event.detail.ctx.response.status < 500 ? heard() : missed()));
body.addEventListener("htmx:error", missed);
body.addEventListener("htmx:after:swap", retitle);
retitle();
