// The form of a new container, checked and turned into Docker's request.

import type { CreateContainer } from "../../backend/bindings/CreateContainer";
import type { PortBinding } from "../../backend/bindings/PortBinding";
import { splitArguments } from "../../format/arguments";
import type { Key } from "../../messages";

export interface RunForm {
  image: string;
  name: string;
  command: string;
  ports: string;
  environment: string;
  remove: boolean;
}

export type Checked =
  | { kind: "ok"; name: string | null; create: CreateContainer }
  | { kind: "wrong"; field: keyof RunForm; message: Key; value: string };

const PORT = /^(?:(\d{1,3}(?:\.\d{1,3}){3}):)?(\d{1,5}):(\d{1,5})(?:\/(tcp|udp))?$/;

/** The request of a container that is its image and nothing else. */
export function plain(image: string): CreateContainer {
  return {
    Image: image,
    Cmd: null,
    Env: [],
    ExposedPorts: {},
    Hostname: "",
    User: "",
    Entrypoint: null,
    Labels: {},
    WorkingDir: "",
    Tty: false,
    OpenStdin: false,
    HostConfig: {
      Binds: [],
      NetworkMode: "",
      PortBindings: {},
      RestartPolicy: { Name: "", MaximumRetryCount: 0 },
      AutoRemove: false,
      Memory: 0,
      NanoCpus: 0,
      Privileged: false,
    },
  };
}

/** What a load says of the image it made: its name, or its id when it has none. */
export function loadedImage(line: string): string | null {
  return /^Loaded image(?: ID)?: (\S+)/.exec(line.trim())?.[1] ?? null;
}

export function check(form: RunForm): Checked {
  const wrong = (field: keyof RunForm, message: Key, value = ""): Checked => ({ kind: "wrong", field, message, value });
  const image = form.image.trim();
  if (image === "") return wrong("image", "run.needImage");
  const command = splitArguments(form.command);
  if (command.kind === "open-quote") return wrong("command", "run.openQuote");

  const bindings: Record<string, PortBinding[]> = {};
  for (const text of form.ports.split(/[\s,]+/).filter((part) => part !== "")) {
    const match = PORT.exec(text);
    const [, ip, host, inside, protocol] = match ?? [];
    if (!host || !inside || Number(host) > 65535 || Number(inside) > 65535 || Number(inside) === 0) {
      return wrong("ports", "run.badPort", text);
    }
    (bindings[`${inside}/${protocol ?? "tcp"}`] ??= []).push({ HostIp: ip ?? "", HostPort: host });
  }

  const variables = form.environment.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  const bad = variables.find((line) => !/^[^=\s]+=/.test(line));
  if (bad !== undefined) return wrong("environment", "run.badEnvironment", bad);

  const name = form.name.trim();
  const request = plain(image);
  return {
    kind: "ok",
    name: name === "" ? null : name,
    create: {
      ...request,
      Cmd: command.words.length > 0 ? command.words : null,
      Env: variables,
      ExposedPorts: Object.fromEntries(Object.keys(bindings).map((port) => [port, {}])),
      HostConfig: { ...request.HostConfig, PortBindings: bindings, AutoRemove: form.remove },
    },
  };
}
