// Chips below a field of lines: each adds its line, once.
document.addEventListener("click", (event) => {
  const chip = event.target.closest("[data-adds]");
  if (!chip) return;
  const field = document.getElementById(chip.dataset.to);
  const lines = field.value.split("\n").map((line) => line.trim()).filter(Boolean);
  if (!lines.includes(chip.dataset.adds)) field.value = [...lines, chip.dataset.adds].join("\n");
  field.dispatchEvent(new Event("input", { bubbles: true }));
});
