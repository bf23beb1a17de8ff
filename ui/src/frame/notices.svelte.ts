// What went wrong with an action, until it is dismissed or replaced.

import type { Failure } from "../backend/remote";

export interface Notice {
  key: number;
  title: string;
  failure: Failure;
}

export class Notices {
  all = $state.raw<Notice[]>([]);
  #last = 0;

  add(title: string, failure: Failure) {
    this.#last += 1;
    this.all = [...this.all.slice(-2), { key: this.#last, title, failure }];
  }

  dismiss(key: number) {
    this.all = this.all.filter((notice) => notice.key !== key);
  }
}
