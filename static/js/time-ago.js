// <time-ago datetime data-style="ago|age|elapsed">: a time that stays relative; its title keeps the absolute one.
const STEPS = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];

export function spell(seconds) {
  const place = STEPS.findIndex(([, size]) => seconds >= size);
  if (place < 0) return "0s";
  const [unit, size] = STEPS[place];
  const [smaller, less] = STEPS[place + 1] ?? [];
  const rest = less && seconds < size * 10 ? Math.floor((seconds % size) / less) : 0;
  return `${Math.floor(seconds / size)}${unit}${rest ? ` ${rest}${smaller}` : ""}`;
}

class TimeAgo extends HTMLElement {
  static observedAttributes = ["datetime"];

  connectedCallback() {
    this.show();
    this.timer = setInterval(() => this.show(), 1000);
  }

  disconnectedCallback() {
    clearInterval(this.timer);
  }

  attributeChangedCallback() {
    if (this.isConnected) this.show();
  }

  show() {
    const at = new Date(this.getAttribute("datetime"));
    const seconds = Math.max(0, Math.round((Date.now() - at) / 1000));
    const words = this.dataset.style === "ago" ? (seconds < 5 ? "just now" : `${spell(seconds)} ago`) : spell(seconds);
    if (this.textContent !== words) this.textContent = words;
    if (!this.localised) this.title = at.toLocaleString();
    this.localised = true;
  }
}

customElements.define("time-ago", TimeAgo);
