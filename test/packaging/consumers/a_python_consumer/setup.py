from setuptools import setup

setup(name='a_python_consumer', version='0.0.0', packages=['a_python_consumer'], data_files=[
    ('share/ament_index/resource_index/packages', ['resource/a_python_consumer']), ('share/a_python_consumer', ['package.xml'])])
