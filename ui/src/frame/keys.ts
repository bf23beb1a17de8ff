// The command key of this platform, and how its shortcuts are written.

export function isMac(platform: string): boolean {
  return /mac/i.test(platform);
}

/** Whether an event carries the platform's command key and no other modifier. */
export function command(event: KeyboardEvent, mac: boolean): boolean {
  if (event.altKey || event.shiftKey) return false;
  return mac ? event.metaKey && !event.ctrlKey : event.ctrlKey && !event.metaKey;
}

/** "⌘F" on a Mac, "Ctrl F" elsewhere. */
export function shortcut(key: string, mac: boolean): string {
  return mac ? `⌘${key}` : `Ctrl ${key}`;
}

export const onMac = typeof navigator !== "undefined" && isMac(navigator.userAgent);
