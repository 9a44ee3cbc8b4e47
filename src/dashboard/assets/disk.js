// What a town takes of the disk, in one line; the rigs are told on hover, and why work waits if that
// is why.
import { setText } from "./dom.js";

export function showDisk(place, { disk, rigs }) {
  place.hidden = !disk?.measured_at;
  if (place.hidden) return;
  const most = disk.bytes_max ? ` of ${inBytes(disk.bytes_max)}` : "";
  setText(place, `${disk.held ? "Disk full: " : "Disk "}${inBytes(disk.bytes)}${most}`);
  place.dataset.held = String(Boolean(disk.held));
  const lines = disk.rigs.map(({ rig_id: rig, bytes, repository_bytes: own, worktrees }) => {
    const builds = worktrees.reduce((sum, { build_bytes: build }) => sum + build, 0);
    const parts = `repository ${inBytes(own)}, ${worktrees.length} worktrees`;
    return `${rigs.get(rig)?.name ?? rig}: ${inBytes(bytes)} (${parts}, builds ${inBytes(builds)})`;
  });
  place.title = [...(disk.held ? [disk.held] : []), ...lines].join("\n");
}

function inBytes(bytes) {
  const format = { style: "unit", unitDisplay: "short", maximumFractionDigits: 1 };
  const [unit, size] = bytes < 1e9 ? ["megabyte", 1e6] : ["gigabyte", 1e9];
  return new Intl.NumberFormat("en", { ...format, unit }).format(bytes / size);
}
