// Keys: / opens the filters, j and k move through the rows, Enter opens one. Without this file everything can be read.
(() => {
  "use strict";
  const links = () => [...document.querySelectorAll("[data-row]")].map((row) => row.querySelector("a"));
  const typing = (node) => /^(INPUT|TEXTAREA|SELECT)$/.test(node.tagName);
  const move = (by) => {
    const all = links();
    const at = all.indexOf(document.activeElement);
    const to = at < 0 ? 0 : Math.min(Math.max(at + by, 0), all.length - 1);
    all[to]?.focus();
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    const filters = document.querySelector("details.filters");
    if (event.key === "/" && filters) {
      event.preventDefault();
      filters.open = true;
      filters.querySelector("input").focus();
    } else if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
  });
  // An address has only what is asked for.
  document.querySelectorAll("form[method=get]").forEach((form) =>
    form.addEventListener("submit", () => {
      const since = form.querySelector("[name=since]")?.value || form.querySelector("[name=until]")?.value;
      form.querySelectorAll("input, select").forEach((field) => {
        if (!field.value || (since && field.name === "range")) field.disabled = true;
      });
    }),
  );

  // Live: the first page again every three seconds; nothing moves while somebody is in the table.
  const live = document.querySelector("[data-live]:not([data-off])");
  const table = document.querySelector("[data-live-rows]");
  if (live && table) {
    const button = live.querySelector("button");
    const said = live.querySelector("[role=status]");
    const ids = (body) => [...body.querySelectorAll("[data-id]")].map((row) => row.dataset.id);
    let timer = 0;
    let wrong = 0;
    const look = async () => {
      try {
        const answer = await fetch(location.href, { headers: { accept: "text/html" } });
        if (!answer.ok || answer.redirected) throw new Error(answer.status);
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const fresh = page.querySelector("[data-live-rows]");
        const known = new Set(ids(table));
        const count = fresh ? ids(fresh).filter((id) => !known.has(id)).length : 0;
        wrong = 0;
        if (count && table.matches(":hover, :focus-within")) said.textContent = `paused, ${count} new`;
        else if (count) {
          table.replaceChildren(...fresh.children);
          said.textContent = `${count} new at ${new Date().toISOString().slice(11, 19)} UTC`;
        }
      } catch {
        wrong += 1;
        said.textContent = "the page does not answer; it is tried again";
      }
      if (button.getAttribute("aria-pressed") === "true") timer = setTimeout(look, 3000 * Math.min(wrong + 1, 10));
    };
    live.hidden = false;
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", on);
      said.textContent = on ? "new requests show as they end" : "stopped";
      clearTimeout(timer);
      if (on) look();
    });
  }
})();
