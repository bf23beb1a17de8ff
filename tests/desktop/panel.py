#!/usr/bin/python3
"""A desktop's panel without a screen: what a menu bar item meets on a desktop that shows such items.

Owns the name of the StatusNotifierItem watcher on the session bus, so that programs export their items and menus, and
says `ready` when it does. Then it reads one request a line and answers each by one line of JSON:

    menu           the entries of the item's menu: [{"label": …, "enabled": …}]; null while there is no item
    click LABEL    chooses the entry, as a pointer would: true, or false when there is none to choose
"""

import json
import sys

from gi.repository import Gio, GLib

WATCHER = "org.kde.StatusNotifierWatcher"
ITEM = "org.kde.StatusNotifierItem"
MENU = "com.canonical.dbusmenu"
TIMEOUT_MS = 5000

INTERFACE = f"""
<node><interface name="{WATCHER}">
  <method name="RegisterStatusNotifierItem"><arg type="s" direction="in"/></method>
  <method name="RegisterStatusNotifierHost"><arg type="s" direction="in"/></method>
  <property name="RegisteredStatusNotifierItems" type="as" access="read"/>
  <property name="IsStatusNotifierHostRegistered" type="b" access="read"/>
  <property name="ProtocolVersion" type="i" access="read"/>
</interface></node>
"""


class Panel:
    """The watcher, and the one item that has registered last."""

    def __init__(self, connection):
        self.connection = connection
        self.item = None
        interface = Gio.DBusNodeInfo.new_for_xml(INTERFACE).interfaces[0]
        connection.register_object("/StatusNotifierWatcher", interface, self.called, self.asked, None)

    def called(self, _connection, sender, _path, _interface, method, parameters, invocation):
        if method == "RegisterStatusNotifierItem":
            # An item says its object's path, or the name of its own that has the usual path.
            (service,) = parameters.unpack()
            self.item = (sender, service) if service.startswith("/") else (service, "/StatusNotifierItem")
        invocation.return_value(None)

    def asked(self, _connection, _sender, _path, _interface, name):
        if name == "RegisteredStatusNotifierItems":
            return GLib.Variant("as", [] if self.item is None else ["".join(self.item)])
        return GLib.Variant("b", True) if name == "IsStatusNotifierHostRegistered" else GLib.Variant("i", 0)

    def call(self, path, interface, method, arguments):
        owner, _ = self.item
        answer = self.connection.call_sync(
            owner, path, interface, method, arguments, None, Gio.DBusCallFlags.NONE, TIMEOUT_MS, None)
        return answer.unpack()

    def menu_path(self):
        _, path = self.item
        (menu,) = self.call(path, "org.freedesktop.DBus.Properties", "Get", GLib.Variant("(ss)", (ITEM, "Menu")))
        return menu

    def entries(self):
        """The menu's entries as (id, label, enabled); separators have no label."""
        layout = GLib.Variant("(iias)", (0, -1, []))
        _, (_, _, children) = self.call(self.menu_path(), MENU, "GetLayout", layout)
        return [(number, properties.get("label", ""), properties.get("enabled", True))
                for number, properties, _ in children]

    def menu(self):
        if self.item is None:
            return None
        return [{"label": label, "enabled": enabled} for _, label, enabled in self.entries() if label]

    def click(self, wanted):
        for number, label, enabled in self.entries():
            if label == wanted and enabled:
                event = GLib.Variant("(isvu)", (number, "clicked", GLib.Variant("i", 0), 0))
                self.call(self.menu_path(), MENU, "Event", event)
                return True
        return False


def main():
    loop = GLib.MainLoop()
    connection = Gio.bus_get_sync(Gio.BusType.SESSION)
    panel = Panel(connection)

    def answer(_channel, _condition):
        request = sys.stdin.readline()
        if request == "":
            loop.quit()
            return False
        verb, _, label = request.strip().partition(" ")
        try:
            said = panel.menu() if verb == "menu" else panel.click(label)
        except GLib.Error as error:
            # An item that has gone answers nothing.
            said = {"error": error.message}
        print(json.dumps(said), flush=True)
        return True

    GLib.io_add_watch(GLib.IOChannel.unix_new(0), GLib.PRIORITY_DEFAULT, GLib.IOCondition.IN | GLib.IOCondition.HUP, answer)
    Gio.bus_own_name_on_connection(connection, WATCHER, Gio.BusNameOwnerFlags.NONE, lambda *_: print("ready", flush=True), None)
    loop.run()


main()
