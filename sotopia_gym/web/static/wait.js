"use strict";
// Shows the page anew when something has happened. Without scripts it is shown anew every few seconds.
const waiting = document.getElementById("waiting");

async function watch() {
  for (;;) {
    try {
      const answer = await fetch(waiting.dataset.state, { cache: "no-store" });
      if (answer.ok && (await answer.json()).changed) return location.reload();
    } catch {
      // The server may be starting again.
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

if (waiting) watch();
