"""The page of `captum-iscam app` as a Space of a model hub."""

from captum_iscam.cli.app.page import SETTINGS, make_app

demo = make_app()

if __name__ == "__main__":
    demo.launch(**SETTINGS)
