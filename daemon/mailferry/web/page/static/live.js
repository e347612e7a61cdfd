// Renews what changes, every few seconds while somebody looks. The page is whole without it.
"use strict";

(() => {
  const EVERY = 5000;
  const LONGEST = 60000;
  const PATIENCE = 15000;
  const line = document.getElementById("live");
  if (!line || !document.querySelector("[data-live]")) return;

  let on = true;
  let timer = 0;
  let pause = EVERY;
  let lostAt = null;

  const words = document.createElement("span");
  const button = document.createElement("button");
  button.type = "button";
  line.removeAttribute("role"); // it changes often: only a lost connection is announced, by `words`
  words.setAttribute("role", "status");
  line.append(button, " ", words);

  const clock = (date) => date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

  function show() {
    button.textContent = on ? "Stop updating" : "Update by itself";
    words.textContent = lostAt ? `No answer since ${clock(lostAt)}; trying again.` : "";
  }

  // What somebody is at is left as it is: a form, an open detail, marked text.
  function inUse(section) {
    const selection = document.getSelection();
    if (selection && !selection.isCollapsed && selection.containsNode(section, true)) return true;
    if (section.querySelector("details[open]")) return true;
    const active = document.activeElement;
    return section.contains(active) && active.matches("input, select, textarea, button");
  }

  function focusAgain(section, link) {
    if (!link) return;
    for (const each of section.querySelectorAll("a[href]")) {
      if (each.getAttribute("href") === link) return each.focus({ preventScroll: true });
    }
  }

  function replace(fresh) {
    for (const section of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(section.id);
      if (!next || next.innerHTML === section.innerHTML || inUse(section)) continue;
      const active = document.activeElement;
      const link = section.contains(active) ? active.getAttribute("href") : null;
      section.className = next.className;
      section.replaceChildren(...next.childNodes);
      focusAgain(section, link);
    }
    document.title = fresh.title;
  }

  async function renew() {
    const answer = await fetch(location.href, {
      headers: { "X-Mailferry-Live": "1" },
      cache: "no-store",
      credentials: "same-origin",
      redirect: "error",
      signal: AbortSignal.timeout(PATIENCE),
    });
    if (!answer.ok) throw new Error(answer.statusText);
    replace(new DOMParser().parseFromString(await answer.text(), "text/html"));
  }

  async function tick() {
    timer = 0;
    if (!on || document.hidden) return;
    try {
      await renew();
      pause = EVERY;
      lostAt = null;
    } catch {
      lostAt = lostAt || new Date();
      pause = Math.min(pause * 2, LONGEST);
    }
    show();
    plan(pause);
  }

  function plan(delay) {
    clearTimeout(timer);
    timer = on && !document.hidden ? setTimeout(tick, delay) : 0;
  }

  button.addEventListener("click", () => {
    on = !on;
    show();
    plan(0);
  });
  document.addEventListener("visibilitychange", () => plan(0));
  show();
  plan(EVERY);
})();
