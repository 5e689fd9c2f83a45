// Writes labels behind the labeller's back, so that nobody waits for a server: in order for each image, again and again
// while the server is away. What the server refuses is told.
const RETRY = [500, 1000, 2000, 5000];

export class Saver {
  constructor(collection, labeller, { changed, refused }) {
    this.url = `/api/c/${collection}/labels`;
    this.labeller = labeller;
    this.changed = changed;
    this.refused = refused;
    this.chains = new Map();
    this.pending = 0;
    this.away = false;
  }

  put(image, label, unsure = false) {
    this.pending += 1;
    this.changed();
    const before = this.chains.get(image) ?? Promise.resolve();
    const chain = before.then(() => this.write(image, label, unsure)).finally(() => {
      this.pending -= 1;
      if (this.chains.get(image) === chain) this.chains.delete(image);
      this.changed();
    });
    this.chains.set(image, chain);
  }

  async write(image, label, unsure) {
    for (let attempt = 0; ; attempt += 1) {
      try {
        const response = await fetch(this.url, {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify({ image, label, unsure, labeller: this.labeller }),
        });
        if (response.ok) {
          this.away = false;
          return;
        }
        if (response.status < 500) {
          const body = await response.json().catch(() => ({}));
          this.refused(image, body.error ?? `refused (${response.status})`);
          return;
        }
      } catch {
        // The network or the server is away: the label is kept here and sent again.
      }
      this.away = true;
      this.changed();
      await new Promise((done) => setTimeout(done, RETRY[Math.min(attempt, RETRY.length - 1)]));
    }
  }
}
