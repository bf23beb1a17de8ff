// A preference of this window that survives it: the page, widths of panes.

/** A value kept in local storage under `sampan.<name>`; storage that refuses is only forgetful. */
export function remembered<T>(name: string, initial: T): { value: T } {
  const key = `sampan.${name}`;
  let value = $state.raw(read(key, initial));
  return {
    get value() {
      return value;
    },
    set value(next: T) {
      value = next;
      try {
        localStorage.setItem(key, JSON.stringify(next));
      } catch {
        // A full or forbidden storage costs the memory of it, nothing else.
      }
    },
  };
}

function read<T>(key: string, initial: T): T {
  try {
    const text = localStorage.getItem(key);
    return text === null ? initial : (JSON.parse(text) as T);
  } catch {
    return initial;
  }
}
