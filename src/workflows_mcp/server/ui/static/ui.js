/* What makes the pages livelier. Everything works without it. */
"use strict";

const stale = () => document.getElementById("stale");
const comparing = () => document.querySelector("form.compare");
const ended = () => document.getElementById("ended");

/* Whether somebody has typed something that no server has yet. */
const isTyped = () => [...document.querySelectorAll("textarea, input:not([type=hidden], [type=range])")]
  .some((field) => field.value !== field.defaultValue);

/* How often the slider was moved, up to which move the server has answered, and which one each request knows of. */
let moves = 0;
let answered = 0;
const known = new WeakMap();
const isSlide = (ctx) => ctx.sourceElement.matches(".slide");

document.addEventListener("htmx:before:request", (event) => {
  const ctx = event.detail.ctx;
  known.set(ctx, isSlide(ctx) ? moves : answered);
  /* Nobody looks at a page in the background: it asks for nothing there. */
  if (document.hidden) event.preventDefault();
});
document.addEventListener("htmx:finally:request", (event) => {
  answered = Math.max(answered, known.get(event.detail.ctx) ?? 0);
});

/* What is there stays when an update fails; a line says that it may be old. */
document.addEventListener("htmx:error", () => {
  stale().hidden = false;
  ended().hidden = true;
});
document.addEventListener("htmx:after:request", (event) => {
  const ctx = event.detail.ctx;
  const response = ctx?.response?.raw;
  if (!response) return;
  const failed = response.status >= 500;
  stale().hidden = !failed;
  /* Nor is a page sent away to log in on which somebody is typing. */
  const login = response.headers.get("HX-Redirect");
  const stays = login !== null && isTyped();
  ended().hidden = !stays;
  if (stays) ended().querySelector("a").href = login;
  /* Nor is a slider put back by an answer that does not know where it is by now: one that does is on its way. */
  const isBehind = ctx.target?.id === "run" && known.get(ctx) !== moves;
  if (failed || stays || isBehind) event.preventDefault();
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
  moves += 1;
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
  if (slide && known.get(event.detail.ctx) === moves) slide.value = slide.getAttribute("value");
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
