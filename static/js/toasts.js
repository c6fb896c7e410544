// Words about what was just done. They leave by themselves; errors stay until somebody closes them.
const LASTS = 6000;
const place = document.getElementById("toasts");

function dress(toast) {
  if (!toast.classList.contains("is-error")) {
    setTimeout(() => toast.remove(), LASTS);
    return;
  }
  const close = document.createElement("button");
  close.className = "quiet";
  close.type = "button";
  close.textContent = "Close";
  close.addEventListener("click", () => toast.remove());
  toast.append(close);
}

document.body.addEventListener("cortex:toast", ({ detail }) => {
  const toast = document.createElement("p");
  toast.className = detail.error ? "toast is-error" : "toast";
  toast.textContent = detail.words;
  place.append(toast);
  dress(toast);
});

place.querySelectorAll(".toast").forEach(dress);
