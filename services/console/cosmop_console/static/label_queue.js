// The images to come: asked for in lots, their pictures loaded and decoded before they are needed.
const LOT = 24;
const READY = 8;

export class Queue {
  constructor(collection, labeller) {
    this.collection = collection;
    this.labeller = labeller;
    this.items = [];
    this.seen = new Set();
    this.after = "";
    this.exhausted = false;
    this.filling = null;
  }

  picture(image) {
    const img = new Image();
    img.alt = `Image ${image.slice(0, 8)}`;
    img.src = `/c/${this.collection}/images/${image}/1280.jpg`;
    // Decoded now, so that showing it costs no more than a paint.
    return { image, img, ready: img.decode().catch(() => undefined) };
  }

  async fill() {
    this.prepare();
    if (this.items.length >= LOT / 2 || this.exhausted) return this.filling;
    this.filling ??= this.ask().finally(() => (this.filling = null));
    return this.filling;
  }

  async ask() {
    const query = new URLSearchParams({ labeller: this.labeller, after: this.after, limit: LOT });
    const response = await fetch(`/api/c/${this.collection}/queue?${query}`);
    if (!response.ok) throw new Error((await response.json()).error ?? response.statusText);
    const { images, progress } = await response.json();
    this.progress ??= progress;
    this.exhausted = images.length < LOT;
    for (const { image, place } of images) {
      this.after = place;
      if (!this.seen.has(image)) {
        this.seen.add(image);
        this.items.push({ image });
      }
    }
    this.prepare();
  }

  prepare() {
    this.items.slice(0, READY).forEach((item) => item.img ?? Object.assign(item, this.picture(item.image)));
  }

  async next() {
    if (!this.items.length) await this.fill();
    const item = this.items.shift();
    if (item && !item.img) Object.assign(item, this.picture(item.image));
    void this.fill().catch(() => undefined);
    return item ?? null;
  }

  back(item) {
    this.seen.add(item.image);
    this.items.unshift(item);
    this.prepare();
  }

  // Skipped images come again.
  restart() {
    this.items = [];
    this.seen.clear();
    this.after = "";
    this.exhausted = false;
  }
}
