/* What makes the pages livelier. Everything works without it. */
"use strict";

const stale = () => document.getElementById("stale");
const comparing = () => document.querySelector("form.compare");

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

/* The slider of a run says where it is before the server has answered, and the address follows it. */
document.addEventListener("input", (event) => {
  const slide = event.target;
  if (slide.id !== "slide") return;
  document.getElementById("slide-told").textContent = slide.value;
  slide.setAttribute("aria-valuetext", `${slide.value} of ${slide.dataset.count}`);
  /* Another checkpoint is to be compared: what was chosen for the last one is let go. */
  comparing()?.removeAttribute("hx-morph-skip");
});

/* Whoever chooses what to compare is left in peace: after an update each place in the list is another checkpoint's. */
document.addEventListener("focusin", ({ target }) => {
  if (target.id === "compare" && !target.form.hasAttribute("hx-morph-skip")) target.form.setAttribute("hx-morph-skip", "");
});
document.addEventListener("change", ({ target }) => {
  if (target.id === "compare") target.form.setAttribute("hx-morph-skip", "chosen");
});
document.addEventListener("focusout", ({ target }) => {
  if (target.id === "compare" && target.form.getAttribute("hx-morph-skip") === "") target.form.removeAttribute("hx-morph-skip");
});

/* Nothing that somebody has typed is lost without a word when the question is not asked any more. */
let typed = null;
document.addEventListener("htmx:before:swap", () => {
  const field = document.querySelector("#question textarea");
  typed = field?.value ? field : null;
});
document.addEventListener("htmx:after:swap", (event) => {
  if (typed && !typed.isConnected) {
    document.querySelector(".told").textContent =
      `This question was answered by somebody else, or is not asked any more. What you had typed: ${typed.value}`;
  }
  typed = null;
  const slide = document.getElementById("slide");
  /* A slider that was moved to the newest checkpoint stays there when there are new ones. */
  if (slide && event.target.id === "run") slide.value = slide.getAttribute("value");
  const page = document.getElementById("run")?.dataset.page;
  if (page && page !== location.pathname + location.search) history.replaceState(null, "", page);
});

/* What was asked for takes the place of the link that asked: whoever uses the keyboard goes on from there. */
document.addEventListener("htmx:after:swap", () => {
  const next = document.querySelector("[data-focus]");
  if (!next) return;
  next.removeAttribute("data-focus");
  next.focus({ preventScroll: true });
});
