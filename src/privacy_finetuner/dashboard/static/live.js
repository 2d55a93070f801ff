// A running job as it happens. Figures come from the server's events; nothing is guessed here.
"use strict";

(() => {
  const page = document.querySelector("#job[data-live]");
  if (!page) return;
  const lang = document.documentElement.lang;
  const figure = new Intl.NumberFormat(lang, { maximumSignificantDigits: 4 });
  const status = document.querySelector("[data-live-status]");
  const source = new EventSource(page.dataset.live);
  let planned = null;

  const show = (name, value) => {
    document.querySelectorAll(`[data-live-field="${name}"]`).forEach((field) => {
      if (value == null) return;
      field.textContent = field.dataset.kind === "duration" ? duration(value) : figure.format(value);
    });
  };

  const duration = (seconds) => {
    const unit = (value, name) => new Intl.NumberFormat(lang, { style: "unit", unit: name, unitDisplay: "short", maximumFractionDigits: 0 }).format(value);
    const whole = Math.max(0, Math.round(seconds));
    if (whole < 60) return unit(whole, "second");
    const [size, larger, part, smaller] = whole < 3600 ? [60, "minute", 1, "second"] : [3600, "hour", 60, "minute"];
    const rest = Math.floor((whole % size) / part);
    return unit(Math.floor(whole / size), larger) + (rest ? ` ${unit(rest, smaller)}` : "");
  };

  const cap = () => {
    if (planned !== null) return [planned];
    const heads = document.querySelectorAll('#chart-epsilon th[data-draw="cap"]');
    const last = document.querySelector("#chart-epsilon details.figures tbody tr:last-child td:last-child");
    if (heads.length && last && last.dataset.v) planned = Number(last.dataset.v);
    return heads.length ? [planned] : [];
  };

  const on = (name, handle) => source.addEventListener(name, (event) => handle(JSON.parse(event.data)));

  on("step", (body) => {
    show("step", body.step);
    show("steps", body.steps);
    show("epsilon", body.epsilon);
    show("eta_s", body.eta_s);
    document.querySelectorAll("[data-live-progress]").forEach((bar) => {
      if (body.steps) bar.value = body.step / body.steps;
    });
    // The first step brings what the server knows from then on: the plan's price, the whole axis.
    if (!document.querySelector("#chart-epsilon tbody tr[data-at]")) refresh();
    else window.privacyFinetunerCharts.appendRow("chart-epsilon", body.step, [body.epsilon, ...cap()]);
  });
  on("epoch", (body) => {
    show("loss", body.loss);
    window.privacyFinetunerCharts.appendRow("chart-loss", body.epoch, [body.loss]);
    window.privacyFinetunerCharts.appendRow("chart-accuracy", body.epoch, [body.accuracy]);
    if (!document.getElementById("chart-loss")) refresh();
  });
  on("artefact", () => refresh());
  on("state", () => refresh());

  // The parts that are words come from the server; several events at once are one request.
  let waiting = 0;
  const refresh = () => {
    window.clearTimeout(waiting);
    waiting = window.setTimeout(reload, 250);
  };
  const reload = async () => {
    const answer = await fetch(window.location.pathname, { headers: { accept: "text/html" } });
    if (!answer.ok || answer.redirected) {
      window.location.reload();
      return;
    }
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("job");
    if (!fresh) return;
    if (!fresh.dataset.live) source.close();
    const old = document.getElementById("job");
    old.replaceWith(document.adoptNode(fresh));
    planned = null;
    htmx.process(fresh);
    fresh.dispatchEvent(new CustomEvent("htmx:afterSettle", { bubbles: true }));
  };

  source.addEventListener("open", () => {
    if (status) {
      status.classList.remove("lost");
      status.textContent = status.dataset.live;
    }
  });
  source.addEventListener("error", () => {
    if (status) {
      status.classList.add("lost");
      status.textContent = status.dataset.lost;
    }
  });
})();
