// Published ports in as few characters as say the same.

export interface PortMapping {
  privatePort: number;
  publicPort: number | null;
  protocol: string;
  ip: string | null;
}

/** "8080→80", "53→53/udp", "443": IPv4 and IPv6 twins are said once. */
export function portLabels(ports: readonly PortMapping[]): string[] {
  const labels = new Set<string>();
  for (const port of ports) {
    const suffix = port.protocol === "tcp" ? "" : `/${port.protocol}`;
    labels.add(
      port.publicPort === null
        ? `${port.privatePort}${suffix}`
        : `${port.publicPort}→${port.privatePort}${suffix}`,
    );
  }
  return [...labels];
}
