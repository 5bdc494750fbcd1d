// Keeps a page up to date, searches while one types, and shows moments in local time.
// Without it the page can be read, searched and sorted all the same.
"use strict";

const SECONDS = Number(document.documentElement.dataset.refresh);
const stale = document.getElementById("stale");
const form = document.getElementById("search");
let running = null;
let refreshedAt = new Date();

function localise(root) {
  const form = { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", timeZoneName: "short" };
  for (const time of root.querySelectorAll("time[datetime]")) {
    time.title = new Date(time.dateTime).toLocaleString([], form);
  }
}

function replace(text) {
  const next = new DOMParser().parseFromString(text, "text/html");
  const fresh = next.getElementById("live");
  const live = document.getElementById("live");
  if (!fresh) throw new Error("not a page of this exporter");
  document.title = next.title;
  if (fresh.innerHTML === live.dataset.shown) return;
  // Who moves by keyboard stays where they are.
  const focus = document.activeElement;
  const kept = live.contains(focus) ? focus.getAttribute("href") : null;
  live.dataset.shown = fresh.innerHTML;
  for (const open of live.querySelectorAll("details[id][open]")) {
    fresh.querySelector(`#${open.id}`)?.setAttribute("open", "");
  }
  live.replaceChildren(...document.adoptNode(fresh).childNodes);
  localise(live);
  if (kept !== null) {
    const again = [...live.querySelectorAll("a[href]")].find((link) => link.getAttribute("href") === kept);
    (again || live).focus({ preventScroll: true });
  }
}

async function load(address) {
  running?.abort();
  const mine = (running = new AbortController());
  try {
    const signal = AbortSignal.any([mine.signal, AbortSignal.timeout(SECONDS * 1000)]);
    const answer = await fetch(address, { signal, headers: { accept: "text/html" } });
    if (!answer.ok && answer.status !== 404) throw new Error(`it answers ${answer.status}`);
    const text = await answer.text();
    if (mine !== running) return;
    replace(text);
    refreshedAt = new Date();
    stale.hidden = true;
  } catch (error) {
    if (mine !== running) return;
    const why = error instanceof TypeError ? "it cannot be reached" : error.message;
    stale.textContent = `Not refreshed since ${refreshedAt.toLocaleTimeString()}: ${why}.`;
    stale.hidden = false;
  } finally {
    if (mine === running) running = null;
  }
}

function search() {
  const asked = new URLSearchParams(new FormData(form));
  for (const name of [...asked.keys()]) {
    if (!asked.get(name) || (name === "sort" && asked.get(name) === "worst")) asked.delete(name);
  }
  history.replaceState(null, "", `?${asked}`);
  load(location.href);
}

if (form) {
  let timer = 0;
  const box = form.elements.namedItem("q");
  box.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, 150);
  });
  form.addEventListener("change", (event) => event.target === box || search());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    search();
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      box.focus();
      box.select();
    }
  });
}

function refresh() {
  if (!document.hidden && running === null) load(location.href);
}

localise(document);
setInterval(refresh, SECONDS * 1000);
document.addEventListener("visibilitychange", refresh);
