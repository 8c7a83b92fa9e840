// Progressive enhancement of the pages: every form and link works without it.
// Forms with data-enhance are sent by fetch, and the main part is replaced; keys press the buttons that show them.

const main = () => document.getElementById("main");
const statusLine = () => document.getElementById("status");
let busy = false;

function say(text, bad) {
  const line = document.createElement("div");
  line.className = bad ? "flash bad" : "flash";
  const words = document.createElement("p");
  words.textContent = text;
  line.append(words);
  statusLine().replaceChildren(line);
}

function show(page, address) {
  const next = new DOMParser().parseFromString(page, "text/html");
  if (!next.getElementById("main")) { location.assign(address); return; }
  document.title = next.title;
  main().replaceChildren(...next.getElementById("main").childNodes);
  statusLine().replaceChildren(...next.getElementById("status").childNodes);
  if (address !== location.href) history.pushState(null, "", address);
  prepare();
  scrollTo(0, 0);
  (main().querySelector("[data-focus]") ?? main()).focus({ preventScroll: true });
}

async function load(address, options) {
  if (busy) return;
  busy = true;
  main().setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(address, { ...options, credentials: "same-origin", headers: { Accept: "text/html" } });
    if (!(answer.headers.get("content-type") ?? "").startsWith("text/html")) throw new Error(`status ${answer.status}`);
    show(await answer.text(), answer.redirected || !options?.body ? answer.url : location.href);
  } catch (error) {
    // The key in the form makes a second try the same verdict, also if the first one did arrive.
    say(`That did not reach the server (${error.message}). Try again.`, true);
  } finally {
    busy = false;
    main().removeAttribute("aria-busy");
  }
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("form[data-enhance]")) return;
  event.preventDefault();
  const fields = new URLSearchParams(new FormData(form));
  if (event.submitter?.name) fields.set(event.submitter.name, event.submitter.value);
  load(form.action, { method: "POST", body: fields });
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (link?.dataset.dialog && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    document.getElementById(link.dataset.dialog).showModal();
  } else if (event.target.closest("[data-key='c']")) {
    swap();
  } else if (event.target.closest("[data-check-all]")) {
    for (const box of main().querySelectorAll("input[name='row']")) box.checked = true;
  }
});

addEventListener("popstate", () => load(location.href));

function swap() {
  const choices = [...main().querySelectorAll("input[name='keep']")];
  const next = choices[(choices.findIndex((choice) => choice.checked) + 1) % choices.length];
  if (!next) return;
  next.checked = true;
  say(next.closest("label").textContent.trim());
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
  if (!main().querySelector("[data-keys='on']") || document.querySelector("dialog[open]")) return;
  if (event.target.closest("input:not([type='radio'], [type='checkbox']), textarea, select, [contenteditable]")) return;
  if (!/^[a-z?]$/i.test(event.key)) return;
  const button = main().querySelector(`[data-key="${event.key.toLowerCase()}"]`);
  if (!button) return;
  event.preventDefault();
  if (button.matches("a[rel]")) load(button.href);
  else button.click();
});

function prepare() {
  for (const control of main().querySelectorAll(".swap, [data-check-all]")) control.hidden = false;
}

prepare();
