// Dialogs that the server wrote: opened when they arrive, closed by Cancel or Escape or once the deed is done.
document.body.addEventListener("htmx:after:swap", () => {
  const dialog = document.querySelector("#dialogs dialog[data-opens]:not([open])");
  if (!dialog) return;
  document.querySelectorAll("details.menu[open]").forEach((menu) => menu.removeAttribute("open"));
  dialog.addEventListener("close", () => dialog.remove());
  dialog.showModal();
});

document.body.addEventListener("cortex:done", () => document.querySelector("#dialogs dialog[open]")?.close());

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-closes]")) event.target.closest("dialog").close();
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.removeAttribute("open");
  }
});

document.addEventListener("keydown", (event) => {
  const menu = document.querySelector("details.menu[open]");
  if (event.key !== "Escape" || !menu) return;
  menu.removeAttribute("open");
  menu.querySelector("summary").focus();
});
