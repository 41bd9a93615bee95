// The hub's page. Everything that comes from the hub is put in as text, never as markup.
const EVERY = 5000;
const $ = (id) => document.getElementById(id);
let token = sessionStorage.getItem("token") || "";
let timer = 0;

function make(tag, words, ...inside) {
  const { text, ...more } = words;
  const made = Object.assign(document.createElement(tag), more);
  if (text !== undefined) made.textContent = text;
  made.append(...inside.filter(Boolean));
  return made;
}

async function ask(path, body) {
  const headers = { authorization: `Bearer ${token}` };
  const answer = await fetch(path, {
    method: body ? "POST" : "GET", headers, body: body ? JSON.stringify(body) : undefined, cache: "no-store",
  });
  const found = await answer.json().catch(() => ({ error: `${answer.status} ${answer.statusText}` }));
  if (!answer.ok) throw Object.assign(new Error(found.error), { status: answer.status });
  return found;
}

function ago(seconds) {
  const steps = [[86400, "d"], [3600, "h"], [60, "min"]];
  for (const [size, word] of steps) if (seconds >= size) return `${Math.floor(seconds / size)} ${word}`;
  return `${Math.max(0, Math.round(seconds))} s`;
}
const since = (time, now) => (time ? ago(now - Date.parse(time) / 1000) : "");
const gib = (bytes) => `${(bytes / 2 ** 30).toFixed(bytes < 10 * 2 ** 30 ? 1 : 0)} GiB`;
const cores = (number) => `${Number(number.toFixed(number < 10 ? 2 : 1))} core${number === 1 ? "" : "s"}`;
const many = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
const mib = (bytes) => (bytes < 2 ** 30 ? `${Math.round(bytes / 2 ** 20)} MiB` : gib(bytes));
const clock = (time) => new Date(time * 1000).toLocaleString([], { weekday: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

// The links of one site, or how many sites have which.
function showLinks(links, several) {
  return links.flatMap((link) => {
    if (several) {
      const words = [["used", link.used], ["up", link.up], ["down", link.down]].filter(([, count]) => count);
      return make("span", { className: `chip ${link.used ? (link.kind === "beidou" ? "sky" : "used") : ""}`,
        text: `${link.kind}: ${words.map(([word, count]) => `${count} ${word}`).join(", ")}` });
    }
    const state = link.used ? "used" : link.up ? "up" : "down";
    const signal = link.signal && state !== "down" ? ` ${link.signal} %` : "";
    return make("span", { className: `chip ${link.kind === "beidou" && link.used ? "sky" : state}`, text: `${link.kind}${signal}`,
      title: `${link.kind} is ${state}` });
  });
}

function showWindow(window, now) {
  if (!window) return null;
  const [begin, end] = window;
  return make("span", { className: "chip", title: "the next quiet stretch: updates go then",
    text: begin <= now ? `quiet until ${clock(end)}` : `quiet ${clock(begin)}` });
}

function showPulse(site, now) {
  const pulse = site.pulse, chips = make("div", { className: "chips" });
  if (site.sky) chips.append(make("span", { className: "chip sky", text: `beidou, ${ago(now - site.sky.time)} ago` }));
  if (!pulse) return chips;
  if (!site.sky) chips.append(...showLinks(pulse.links, site.below > 0));
  if (pulse.nodes[0] < pulse.nodes[1]) chips.append(make("span", { className: "chip bad", text: `${pulse.nodes[0]} of ${pulse.nodes[1]} nodes` }));
  if (pulse.tasks) chips.append(make("span", { className: `chip ${pulse.short ? "warn" : ""}`,
    text: pulse.short ? `${many(pulse.tasks, "task")}, ${many(pulse.short, "replica")} missing` : many(pulse.tasks, "task") }));
  if (pulse.waiting[0]) chips.append(make("span", { className: "chip", text: `${many(pulse.waiting[0], "result")} waiting` }));
  chips.append(...[showWindow(pulse.window, now)].filter(Boolean));
  if (pulse.age) chips.append(make("span", { className: "chip warn", text: `as of ${ago(pulse.age)} ago` }));
  return chips;
}

// One task: its replicas, what they use, which models there are and where.
function showTask(task, tag) {
  const bar = make("div", { className: "bar" });
  const total = Math.max(task.wanted, task.ready, 1);
  for (const [count, kind] of [[Math.min(task.ready, total), ""], [Math.max(0, task.wanted - task.ready), "bad"]]) {
    const part = make("i", { className: kind });
    part.style.width = `${(100 * count) / total}%`;
    bar.append(part);
  }
  const uses = task.running ? `${cores(task.cpu)}, ${mib(task.memory)} in ${many(task.running, "container")}` : "nothing was measured yet";
  const made = make("li", { className: tag },
    make("span", { className: "state", text: `${task.ready} of ${task.wanted} ready` }),
    make("div", { className: "name", text: task.name.replace(/^default\//, "") }), bar,
    make("div", { className: "quiet", text: task.sites > 1 ? `${uses}, at ${many(task.sites, "site")}` : uses }),
    task.models.length && make("ul", { className: "models" }, ...task.models.map((one) => make("li", {},
      make("span", { text: one.model === "*" ? "others" : one.model }),
      make("span", { text: task.sites > 1 ? many(one.sites, "site") : "" })))),
    task.changing && make("div", { className: "chips" }, make("span", { className: "chip warn",
      text: task.sites > 1 ? `switching its model at ${many(task.changing, "site")}` : "its model is being switched" })));
  return made;
}

function showUsage(usage, now) {
  const box = $("tasks");
  box.hidden = !usage.sites;
  box.querySelector(".count").textContent = usage.sites ? `at ${many(usage.sites, "site")}${usage.left_out ? `, and ${usage.left_out} more` : ""}` : "";
  const links = make("div", { className: "chips" }, ...showLinks(usage.links, true));
  if (usage.waiting[0]) links.append(make("span", { className: "chip", text: `${many(usage.waiting[0], "result")} waiting, ${usage.waiting[1]} MiB` }));
  links.append(...[showWindow(usage.window, now)].filter(Boolean));
  box.querySelector(".chips")?.remove();
  box.querySelector("h2").after(links);
  links.style.marginBottom = ".6rem";
  box.querySelector("ul.cards").replaceChildren(...usage.tasks.map((task) => showTask(task, "card")));
}

function showSite(site, now) {
  const below = site.below ? `${site.available} of ${site.below} sites below are ready` : "";
  const amounts = site.cpu[1] ? `${cores(site.cpu[0])}, ${gib(site.memory[0])} for tasks` : "";
  const button = make("button", { className: `site ${site.state}`, type: "button" },
    make("span", { className: "state", text: site.state }),
    make("span", { className: "name", text: site.name }),
    make("div", { className: "quiet", text: summarizeSky(site.sky) || site.message || below || amounts || "nothing is known yet" }),
    site.silence !== null && site.state !== "ready"
      && make("div", { className: "quiet", text: `last heard of ${ago(site.silence)} ago` }),
    showPulse(site, now));
  button.dataset.name = site.name;
  button.onclick = () => showDetail(site, now);
  return make("li", {}, button);
}

function summarizeSky(sky) {
  return sky ? [`${sky.nodes[0]} of ${sky.nodes[1]} nodes ready`, ...sky.alarms, sky.note].filter(Boolean).join(", ") : "";
}

function describeSky(sky, now) {
  if (!sky) return [];
  return [
    ["over Beidou", `${ago(now - sky.time)} ago: ${sky.nodes[0]} of ${sky.nodes[1]} nodes ready, CPU ${sky.cpu} %`],
    ["as of", sky.behind > 300 ? `${ago(sky.behind)} before that` : ""],
    ["alarms", sky.alarms.join(", ")], ["note", sky.note], ["place", sky.position ? sky.position.join(", ") : ""],
    ["waiting results", sky.waiting ? `${sky.waiting}, the oldest for ${ago(sky.oldest * 60)}` : ""],
  ];
}

function describePulse(pulse, below) {
  if (!pulse) return [];
  const links = pulse.links.map((link) => (below
    ? `${link.kind}: ${link.used} used, ${link.up} up, ${link.down} down`
    : `${link.kind} is ${link.used ? "used" : link.up ? "up" : "down"}${link.signal ? `, signal ${link.signal} %` : ""}`));
  return [
    ["load", `CPU ${pulse.load[0]} %, GPU ${pulse.load[1]} %, memory ${pulse.load[2]} %`],
    ["nodes", pulse.nodes[1] ? `${pulse.nodes[0]} of ${pulse.nodes[1]} ready` : ""],
    ["links", links.join("; ")],
    ["update window", pulse.window ? `${clock(pulse.window[0])} to ${clock(pulse.window[1])}` : ""],
    ["waiting results", pulse.waiting[0] ? `${pulse.waiting[0]}, ${pulse.waiting[1]} MiB` : ""],
  ];
}

async function showTasksOf(site, list) {
  list.replaceChildren();
  if (!site.pulse || !site.pulse.tasks) return;
  try {
    const found = await ask(`api/cluster/${encodeURIComponent(site.name)}`);
    if ($("detail").querySelector("h2").textContent !== site.name) return;
    list.replaceChildren(...found.tasks.map((task) => showTask(task, "")));
    if (found.left_out) list.append(make("li", { className: "quiet", text: `and ${found.left_out} more` }));
    if (found.problem) list.append(make("li", { className: "error", text: found.problem }));
  } catch (error) {
    list.replaceChildren(make("li", { className: "error", text: error.message }));
  }
}

function showDetail(site, now) {
  const rows = [
    ["state", `${site.state}${site.since ? `, for ${since(site.since, now)}` : ""}`], ["Kubernetes", site.version],
    ["last heard of", site.silence === null ? "" : `${ago(site.silence)} ago`],
    ["CPU", site.cpu[1] ? `${cores(site.cpu[0])} for tasks, of ${cores(site.cpu[1])}` : ""],
    ["memory", site.memory[1] ? `${gib(site.memory[0])} for tasks, of ${gib(site.memory[1])}` : ""],
    ["sites below", site.below ? `${site.available} of ${site.below} ready` : ""],
    ...describePulse(site.pulse, site.below > 0), ...describeSky(site.sky, now),
    ...Object.entries(site.claims), ...Object.entries(site.labels),
  ];
  const box = $("detail");
  box.querySelector("h2").textContent = site.name;
  box.querySelector("p").textContent = site.message;
  box.querySelector("dl").replaceChildren(...rows.filter(([, text]) => text).flatMap(([name, text]) => [
    make("dt", { text: name }), make("dd", { text })]));
  showTasksOf(site, box.querySelector(".lines"));
  box.showModal();
}

function showTier(tier, now) {
  const words = Object.entries(tier.counts).map(([state, count]) => `${count} ${state}`);
  if (tier.cpu[1]) words.push(`${cores(tier.cpu[0])} and ${gib(tier.memory[0])} for tasks`);
  const bad = (tier.counts.unwell || 0) + (tier.counts.silent || 0), ready = tier.counts.ready || 0;
  const bar = make("div", { className: "bar" });
  for (const [count, kind] of [[ready, ""], [bad, "bad"], [tier.total - ready - bad, "busy"]]) {
    const part = make("i", { className: kind });
    part.style.width = `${(100 * count) / tier.total}%`;
    bar.append(part);
  }
  const hidden = tier.total - tier.clusters.length;
  return make("section", { className: "tier", id: `tier-${tier.tier}` },
    make("h2", { text: tier.tier }, make("span", { className: "count", text: words.join(", ") })), bar,
    make("ul", { className: "sites" }, ...tier.clusters.map((site) => showSite(site, now))),
    hidden > 0 && make("p", { className: "quiet", text: `and ${hidden} more` }));
}

function showWaiting(one, now, may) {
  const facts = [one.serials.length ? `serial ${one.serials.join(", ")}` : "", one.since ? `asks for ${since(one.since, now)}` : "has not asked yet"];
  const card = make("li", { className: "card" },
    make("span", { className: "state", text: one.state }), make("div", { className: "name", text: one.name }),
    make("div", { className: "quiet", text: facts.filter(Boolean).join("; ") }),
    ...one.keys.map((key) => make("div", { className: "key", text: key })));
  if (may) {
    const yes = make("button", { className: "main", type: "button", text: "Let in", disabled: !one.keys.length });
    yes.onclick = () => {
      if (confirm(`${one.name}: does its device show this key?\n\n${one.keys.join("\n")}`)) {
        act("api/approve", { cluster: one.name, keys: one.keys }, `${one.name} is let in`);
      }
    };
    const no = make("button", { type: "button", text: "Refuse" });
    no.onclick = () => confirm(`Refuse ${one.name}?`) && act("api/reject", { cluster: one.name }, `${one.name} is refused`);
    card.append(make("div", { className: "row" }, yes, no));
  }
  return card;
}

function showRollout(one, now, may) {
  const bar = make("div", { className: "bar" });
  for (const [count, kind] of [[one.available, ""], [one.degraded, "bad"], [one.applied - one.available - one.degraded, "busy"]]) {
    const part = make("i", { className: kind });
    part.style.width = `${one.total ? (100 * Math.max(0, count)) / one.total : 0}%`;
    bar.append(part);
  }
  const card = make("li", { className: "card" },
    make("span", { className: "state", text: since(one.created, now) }),
    make("div", { className: "name", text: `${one.namespace}/${one.name}` }), bar,
    make("div", { className: "quiet", text: `${one.available} available, ${one.applied} applied, ${one.total} sites${one.degraded ? `, ${one.degraded} unwell` : ""}` }),
    make("div", { className: "quiet", text: [...one.kinds.filter((kind) => kind !== "Namespace"), ...one.images].join(" ") }),
    one.problem && make("div", { className: "error", text: one.problem }));
  if (may && one.namespace === "tasks") {
    const back = make("button", { type: "button", text: "Take back" });
    back.onclick = () => confirm(`Take ${one.name} back from all sites?`) && act("api/remove", { name: one.name }, `${one.name} is taken back`);
    card.append(make("div", { className: "row" }, back));
  }
  return card;
}

function show(found) {
  const may = (right) => found.rights.includes(right), now = found.time;
  $("login").hidden = true;
  $("app").hidden = false;
  $("hub").textContent = found.hub;
  $("user").textContent = found.user;
  $("stale").textContent = found.synced ? "" : "the hub is still reading";
  $("waiting").hidden = !found.waiting.length;
  $("waiting").querySelector("ul").replaceChildren(...found.waiting.map((one) => showWaiting(one, now, may("approve"))));
  $("map").replaceChildren(...(found.tiers.length ? found.tiers.map((tier) => showTier(tier, now))
    : [make("p", { className: "quiet", text: "No site has come yet: cumulet hub token NAME" })]));
  showUsage(found.usage, now);
  $("rollouts").hidden = !may("rollouts");
  $("rollouts").querySelector("ul").replaceChildren(...found.rollouts.map((one) => showRollout(one, now, may("deploy"))));
  $("new").hidden = !may("deploy");
}

async function look() {
  clearTimeout(timer);
  try {
    show(await ask("api/overview"));
  } catch (error) {
    if (error.status === 401 || error.status === 403 || $("app").hidden) return leave(error.message);
    $("stale").textContent = `no answer: ${error.message}`;
  }
  timer = setTimeout(look, EVERY);
}

async function act(path, body, done) {
  try {
    await ask(path, body);
    $("message").className = "";
    $("message").textContent = done;
  } catch (error) {
    $("message").className = "error";
    $("message").textContent = error.message;
  }
  await look();
}

function leave(why) {
  clearTimeout(timer);
  token = "";
  sessionStorage.removeItem("token");
  $("app").hidden = true;
  $("login").hidden = false;
  $("login-error").textContent = why || "";
  $("token").value = "";
}

$("login").onsubmit = (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  sessionStorage.setItem("token", token);
  look();
};
$("logout").onclick = () => leave("");
$("new").onclick = () => $("deploy").showModal();
$("cancel").onclick = () => $("deploy").close();
$("deploy-form").onsubmit = async (event) => {
  event.preventDefault();
  const form = Object.fromEntries(new FormData(event.target));
  try {
    const found = await ask("api/deploy", { ...form, replicas: Number(form.replicas) });
    $("deploy").close();
    event.target.reset();
    event.target.querySelector(".error").textContent = "";
    $("message").className = "";
    $("message").textContent = `${found.name} is rolled out`;
    look();
  } catch (error) {
    event.target.querySelector(".error").textContent = error.message;
  }
};
if (token) look(); else leave("");
