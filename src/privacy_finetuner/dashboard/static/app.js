// Small conveniences. Every page works without them.
"use strict";

document.documentElement.classList.add("js");

document.addEventListener("click", (event) => {
  const toggle = event.target.closest("[data-toggle]");
  if (toggle) {
    const open = document.getElementById(toggle.dataset.toggle).classList.toggle("open");
    toggle.setAttribute("aria-expanded", String(open));
    return;
  }
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    const lines = document.getElementById(copy.dataset.copy).querySelectorAll("li");
    const source = document.getElementById(copy.dataset.copy);
    const text = lines.length ? Array.from(lines, (line) => line.textContent.trim()).join("\n") : source.textContent.trim();
    navigator.clipboard.writeText(text).then(() => copy.classList.add("primary"));
    return;
  }
  const close = event.target.closest("dialog [data-close]");
  if (close) {
    event.preventDefault();
    close.closest("dialog").close();
    return;
  }
  const opener = event.target.closest("a[data-dialog]");
  if (opener && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    openDialog(opener);
  }
});

// A page as a dialog: what it says in #dialog-content, above the page that was left open.
async function openDialog(opener) {
  const answer = await fetch(opener.href, { headers: { accept: "text/html" } });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const content = page.getElementById("dialog-content");
  if (!answer.ok || !content) {
    window.location.assign(opener.href);
    return;
  }
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-label", content.querySelector("h1").textContent);
  dialog.append(document.adoptNode(content));
  dialog.addEventListener("close", () => {
    dialog.remove();
    opener.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
}

document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-submit-on-change]");
  if (form) form.requestSubmit();
});

// An act is sent once: a second press while it is under way would be a second request.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post" || form.matches("[hx-post]")) return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "1";
});
window.addEventListener("pageshow", () => {
  document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent);
});

// What scrolls sideways can be scrolled with the keyboard, in browsers that do not see to it.
function reachable() {
  document.querySelectorAll(".scroll").forEach((box) => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  });
}
window.addEventListener("resize", reachable);
document.addEventListener("htmx:afterSettle", reachable);
reachable();

// After a swap the reader is where the news is: at the first field that is asked for.
document.addEventListener("htmx:afterSettle", (event) => {
  const wanted = event.target.querySelector ? event.target.querySelector("[autofocus]") : null;
  if (wanted) wanted.focus();
});
