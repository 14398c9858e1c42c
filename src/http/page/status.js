"use strict";

// Names and messages come from tables and services that others control: they are only ever set as text.

const PERIOD_MS = 2000;
const HEALTHY = { streaming: "good", stalled: "bad" };

function text(id, value, className = "") {
  const element = document.getElementById(id);
  element.textContent = value;
  element.className = className;
}

function cell(row, value, className = "") {
  const td = row.insertCell();
  td.textContent = value;
  td.className = className;
}

// What is not known is shown as unknown, never as zero.
function duration(seconds) {
  if (seconds === null || seconds === undefined) return "unknown";
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${(seconds / 60).toFixed(1)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function shards(counts) {
  const shown = Object.entries(counts).filter(([, count]) => count > 0);
  return shown.map(([state, count]) => `${count} ${state}`).join(", ") || "none known";
}

function troubles(replication, replica) {
  const gaps = replication.gaps.map((gap) => `${gap.shard ?? "stream"}: ${gap.reason}; ${gap.advice}`);
  return [replication.error, replica?.error, ...gaps].filter(Boolean).join(" · ");
}

function show(status) {
  const uptime = duration((status.now_unix_ms - status.started_unix_ms) / 1000);
  text("worker", `${status.worker} · version ${status.version} · up ${uptime}`);
  text("ready", status.ready ? "ready" : "not ready", status.ready ? "good" : "bad");
  const reasons = status.not_ready.map((reason) => {
    const item = document.createElement("li");
    item.textContent = reason;
    return item;
  });
  document.getElementById("reasons").replaceChildren(...reasons);

  const rows = document.createElement("tbody");
  rows.id = "rows";
  for (const replication of status.replications) {
    for (const replica of replication.replicas) {
      const row = rows.insertRow();
      cell(row, replication.name);
      cell(row, replication.source);
      cell(row, replica.name);
      cell(row, replica.table);
      cell(row, replica.state.replaceAll("_", " "), HEALTHY[replica.state]);
      cell(row, duration(replica.lag_seconds), "number");
      cell(row, duration(replica.headroom_seconds), "number");
      cell(row, replica.ledger.applied, "number");
      cell(row, replica.pending_changes, "number");
      cell(row, replica.parked_keys, replica.parked_keys > 0 ? "number bad" : "number");
      cell(row, shards(replication.shards));
      cell(row, troubles(replication, replica), "bad");
    }
  }
  document.getElementById("rows").replaceWith(rows);
}

async function refresh() {
  try {
    const response = await fetch("/api/v1/status", { signal: AbortSignal.timeout(5000) });
    if (!response.ok) throw new Error(`status ${response.status}`);
    show(await response.json());
  } catch (error) {
    // What is still on the page is old: say so instead of showing it as if it were current.
    text("ready", `no answer from the worker (${error.message}); what is below may be old`, "bad");
  }
  setTimeout(refresh, PERIOD_MS);
}

refresh();
