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
const cores = (number) => `${Number(number.toFixed(1))} cores`;

function showSite(site, now) {
  const below = site.below ? `${site.available} of ${site.below} sites below are ready` : "";
  const amounts = site.cpu[1] ? `${cores(site.cpu[0])}, ${gib(site.memory[0])} for tasks` : "";
  const button = make("button", { className: `site ${site.state}`, type: "button" },
    make("span", { className: "state", text: site.state }),
    make("span", { className: "name", text: site.name }),
    make("div", { className: "quiet", text: site.message || below || amounts || "nothing is known yet" }),
    site.silence !== null && site.state !== "ready"
      && make("div", { className: "quiet", text: `last heard of ${ago(site.silence)} ago` }));
  button.dataset.name = site.name;
  button.onclick = () => showDetail(site, now);
  return make("li", {}, button);
}

function showDetail(site, now) {
  const rows = [
    ["state", `${site.state}${site.since ? `, for ${since(site.since, now)}` : ""}`], ["Kubernetes", site.version],
    ["last heard of", site.silence === null ? "" : `${ago(site.silence)} ago`],
    ["CPU", site.cpu[1] ? `${cores(site.cpu[0])} for tasks, of ${cores(site.cpu[1])}` : ""],
    ["memory", site.memory[1] ? `${gib(site.memory[0])} for tasks, of ${gib(site.memory[1])}` : ""],
    ["sites below", site.below ? `${site.available} of ${site.below} ready` : ""],
    ...Object.entries(site.claims), ...Object.entries(site.labels),
  ];
  const box = $("detail");
  box.querySelector("h2").textContent = site.name;
  box.querySelector("p").textContent = site.message;
  box.querySelector("dl").replaceChildren(...rows.filter(([, text]) => text).flatMap(([name, text]) => [
    make("dt", { text: name }), make("dd", { text })]));
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
