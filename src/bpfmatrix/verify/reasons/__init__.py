"""Why a program did not load: from the facts that a loader reports to a code and a reason."""
