//! The few words that stand outside the window: the menu bar item's. The window's are in `ui/src/messages`.

use host::model::VmState;

/// A language of the menus; the window says which, as it knows the user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    English,
    SimplifiedChinese,
}

/// What the menu says.
pub(crate) struct Words {
    pub(crate) open: &'static str,
    pub(crate) start: &'static str,
    pub(crate) stop: &'static str,
    pub(crate) quit: &'static str,
}

impl Language {
    /// From the locale of a catalogue.
    pub(crate) fn from_locale(locale: &str) -> Language {
        if locale == "zh-CN" { Language::SimplifiedChinese } else { Language::English }
    }

    pub(crate) fn words(self) -> Words {
        match self {
            Language::English => {
                Words { open: "Open Sampan", start: "Start Engine", stop: "Stop Engine", quit: "Quit Sampan" }
            }
            Language::SimplifiedChinese => {
                Words {
                    open: "打开 Sampan", start: "启动引擎", stop: "停止引擎", quit: "退出 Sampan"
                }
            }
        }
    }

    /// The engine's state as one line.
    pub(crate) fn state(self, vm: Option<&VmState>) -> &'static str {
        let (english, chinese) = match vm {
            None => ("Engine not available", "引擎不可用"),
            Some(VmState::Stopped) => ("Engine stopped", "引擎已停止"),
            Some(VmState::Starting { .. }) => ("Engine starting…", "引擎正在启动…"),
            Some(VmState::Running) => ("Engine running", "引擎运行中"),
            Some(VmState::Stopping) => ("Engine stopping…", "引擎正在停止…"),
            Some(VmState::Restarting { .. }) => ("Engine restarting…", "引擎正在重新启动…"),
            Some(VmState::Failed { .. }) => ("Engine failed", "引擎失败"),
        };
        if self == Language::English { english } else { chinese }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_locale_speaks_english() {
        assert_eq!(Language::from_locale("fr"), Language::English);
        assert_eq!(Language::from_locale("zh-CN"), Language::SimplifiedChinese);
    }
}
