/* What makes the pages livelier. Everything works without it. */
"use strict";

document.documentElement.classList.add("js");

const stale = () => document.getElementById("stale");

/* Nobody looks at a page in the background: it asks for nothing there. */
document.addEventListener("htmx:before:request", (event) => {
  if (document.hidden) event.preventDefault();
});

/* What is there stays when an update fails; a line says that it may be old. */
document.addEventListener("htmx:error", () => { stale().hidden = false; });
document.addEventListener("htmx:after:request", (event) => {
  const response = event.detail.ctx?.response?.raw;
  if (!response) return;
  const failed = response.status >= 500;
  stale().hidden = !failed;
  if (failed) event.preventDefault();
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("button[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});
